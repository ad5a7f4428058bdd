"""A predictor that is a sum over slots, for the exact front and its certificate."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import KFold

from predictors.correlation import tau
from predictors.one_thread import one_thread
from search_spaces import Block, Genomes, SlotTable, Space
from search_spaces.operators import Add

Matrix = NDArray[np.float64]
Vector = NDArray[np.float64]
PENALTIES = np.logspace(-1, 4, 16)
FOLDS = 5


@dataclass(frozen=True)
class AdditiveFit:
    """An additive model of a metric, and its quality in five-fold cross-validation."""

    table: SlotTable
    """The fitted model."""
    tau: float
    """Kendall's τ-b between predictions and values."""
    rmse: float
    """Root mean squared error, in the unit of the metric."""


@one_thread
def fit_additive(space: Space, genomes: Genomes, values: Vector) -> AdditiveFit:
    """Fit a ridge regression in which each term depends on one slot.

    Args:
        space: space of the genomes.
        genomes: evaluated subnets, shape (n, n_genes), n >= 10.
        values: the metric of each subnet, shape (n,).
    """
    predicted = np.zeros(len(values))
    for train, test in KFold(FOLDS, shuffle=True, random_state=0).split(genomes):
        predicted[test] = _fit(space, genomes[train], values[train])(genomes[test])
    rmse = float(np.sqrt(np.mean((predicted - values) ** 2)))
    return AdditiveFit(_fit(space, genomes, values), tau(predicted, values), rmse)


def _fit(space: Space, genomes: Genomes, values: Vector) -> SlotTable:
    features = _slot_features(space)
    # the number of the block in each slot, from 1; 0 for an empty slot
    block_numbers = SlotTable(space, [np.arange(1.0, len(matrix) + 1) for matrix in features])
    rows = block_numbers.per_slot(genomes).astype(np.intp)
    columns = [
        np.vstack([np.zeros(matrix.shape[1]), matrix])[rows[:, s]] for s, matrix in enumerate(features)
    ]
    inputs = np.concatenate(columns, axis=1)
    mean, std = inputs.mean(axis=0), inputs.std(axis=0)
    scale = np.where(std > 0, std, np.inf)  # constant features get no weight
    ridge = RidgeCV(PENALTIES).fit((inputs - mean) / scale, values)
    weights = ridge.coef_ / scale
    ends = np.cumsum([matrix.shape[1] for matrix in features])[:-1]
    slot_weights = np.split(weights, ends)
    entries = [matrix @ w for matrix, w in zip(features, slot_weights, strict=True)]
    return SlotTable(space, entries, float(ridge.intercept_ - mean @ weights))


@lru_cache(maxsize=8)
def _slot_features(space: Space) -> list[Matrix]:
    """Features of every block of each slot, shape (n_blocks, n_features).

    A gene that affects several slots, such as the resolution, has columns only in the first of them; in the
    others, it affects the size of the blocks.
    """
    features: list[Matrix] = []
    seen: set[str] = set()
    for slot in space.slots:
        names = tuple(dict.fromkeys(slot.choices))
        options = list(itertools.product(*(range(len(space.choices[name].options)) for name in names)))
        columns = [np.array([_statistics(block) for block in space.slot_blocks(slot)])]
        for i, name in enumerate(names):
            if name not in seen:
                columns.append(np.eye(len(space.choices[name].options))[[row[i] for row in options]])
        seen.update(names)
        features.append(np.concatenate(columns, axis=1))
    return features


def _statistics(block: Block) -> list[float]:
    return [1.0, float(np.log1p(block.macs)), float(np.log1p(block.params)), float(block.has(Add))]
