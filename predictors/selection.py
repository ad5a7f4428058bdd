"""Which predictor to trust: the one whose order of unseen subnets is best."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.model_selection import KFold

from predictors.correlation import tau
from predictors.estimators import PREDICTORS, PredictorFactory
from predictors.features import Features
from predictors.model import MetricModel
from search_spaces import Genomes

Vector = NDArray[np.float64]
MIN_SAMPLES = 10
"""Cross-validation of fewer evaluations tells nothing."""


def cross_validate(
    features: Features,
    genomes: Genomes,
    values: Vector,
    predictors: Mapping[str, PredictorFactory] = PREDICTORS,
    *,
    seed: int,
    folds: int = 5,
) -> pd.DataFrame:
    """Judge predictors by K-fold cross-validation; all of them see the same folds.

    Args:
        features: of the space.
        genomes: evaluated subnets, shape (n, n_genes).
        values: their metric, shape (n,).
        predictors: the candidates by name.
        seed: of the folds and of whatever is random in a predictor.
        folds: how many.

    Returns:
        One row per predictor, best first: `predictor`, `tau` (Kendall's τ-b, mean over the folds), `tau_std`
        (its standard deviation over the folds), `rmse` (in the metric's unit).

    Raises:
        ValueError: fewer evaluations than `MIN_SAMPLES`.
    """
    if len(values) < MIN_SAMPLES:
        raise ValueError(f"a predictor needs >= {MIN_SAMPLES} evaluated subnets, got {len(values)}")
    inputs = features(genomes)
    splits = list(KFold(folds, shuffle=True, random_state=seed).split(inputs))
    rows = []
    for name, factory in predictors.items():
        taus, errors = [], []
        for train, test in splits:
            guess = factory(features, seed).fit(inputs[train], values[train]).predict(inputs[test])
            taus.append(tau(guess, values[test]))
            errors.append(guess - values[test])
        rmse = np.sqrt(np.mean(np.concatenate(errors) ** 2))
        rows.append((name, np.mean(taus), np.std(taus), rmse))
    table = pd.DataFrame(rows, columns=["predictor", "tau", "tau_std", "rmse"])
    return table.sort_values("tau", ascending=False, kind="stable", ignore_index=True)


def fit_best(
    metric: str,
    features: Features,
    genomes: Genomes,
    values: Vector,
    predictors: Mapping[str, PredictorFactory] = PREDICTORS,
    *,
    seed: int,
) -> tuple[MetricModel, pd.DataFrame]:
    """The predictor with the highest cross-validated τ, fitted to all evaluations, and the table behind it.

    Raises:
        ValueError: as `cross_validate`.
    """
    table = cross_validate(features, genomes, values, predictors, seed=seed)
    best = str(table["predictor"][0])
    return MetricModel.fit(metric, best, predictors[best], features, genomes, values, seed), table
