"""A predictor that adds up over slots, for what needs sums: the exact front and its certificate."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import KFold

from predictors.correlation import tau
from search_spaces import Block, Genomes, SlotTable, Space
from search_spaces.operators import Add

Matrix = NDArray[np.float64]
Vector = NDArray[np.float64]
PENALTIES = np.logspace(-1, 4, 16)
FOLDS = 5


@dataclass(frozen=True)
class AdditiveFit:
    """A metric as a sum over slots, and how well that describes it."""

    table: SlotTable
    tau: float
    """Kendall's τ-b between predictions and values in five-fold cross-validation."""
    rmse: float
    """Of the same predictions, in the metric's unit."""


def fit_additive(space: Space, genomes: Genomes, values: Vector) -> AdditiveFit:
    """Fit a ridge regression whose terms each belong to one slot.

    Args:
        space: of the genomes.
        genomes: evaluated subnets, shape (n, n_genes), n >= 10.
        values: their metric, shape (n,).
    """
    guess = np.zeros(len(values))
    for train, test in KFold(FOLDS, shuffle=True, random_state=0).split(genomes):
        guess[test] = _fit(space, genomes[train], values[train])(genomes[test])
    rmse = float(np.sqrt(np.mean((guess - values) ** 2)))
    return AdditiveFit(_fit(space, genomes, values), tau(guess, values), rmse)


def _fit(space: Space, genomes: Genomes, values: Vector) -> SlotTable:
    parts = list(_slot_features(space))
    place = SlotTable(space, [np.arange(1.0, len(part) + 1) for part in parts])  # 0: the slot is empty
    rows = place.per_slot(genomes).astype(np.intp)
    columns = [np.vstack([np.zeros(part.shape[1]), part])[rows[:, s]] for s, part in enumerate(parts)]
    inputs = np.concatenate(columns, axis=1)
    mean, std = inputs.mean(axis=0), inputs.std(axis=0)
    scale = np.where(std > 0, std, np.inf)  # what never changes has no weight
    ridge = RidgeCV(PENALTIES).fit((inputs - mean) / scale, values)
    weights = ridge.coef_ / scale
    ends = np.cumsum([part.shape[1] for part in parts])[:-1]
    entries = [part @ own for part, own in zip(parts, np.split(weights, ends), strict=True)]
    return SlotTable(space, entries, float(ridge.intercept_ - mean @ weights))


def _slot_features(space: Space) -> Iterator[Matrix]:
    """For each slot the features of every block that may stand there, shape (n_blocks, n_features).

    A gene that several slots read, such as the resolution, has its own columns at the first of them alone;
    the others know it by the size of their blocks.
    """
    seen: set[str] = set()
    for slot in space.slots:
        names = tuple(dict.fromkeys(slot.choices))
        options = list(itertools.product(*(range(len(space.choices[name].options)) for name in names)))
        columns = [np.array([_statistics(block) for block in space.slot_blocks(slot)])]
        for place, name in enumerate(names):
            if name not in seen:
                columns.append(np.eye(len(space.choices[name].options))[[row[place] for row in options]])
        seen.update(names)
        yield np.concatenate(columns, axis=1)


def _statistics(block: Block) -> list[float]:
    return [1.0, float(np.log1p(block.macs)), float(np.log1p(block.params)), float(block.has(Add))]
