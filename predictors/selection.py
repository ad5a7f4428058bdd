"""Selection of the predictor with the best ranking of unseen subnets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from sklearn import config_context
from sklearn.model_selection import KFold

from predictors.correlation import tau
from predictors.estimators import CANDIDATES, PredictorFactory
from predictors.features import Features
from predictors.model import MetricModel, predictions
from predictors.one_thread import one_thread
from search_spaces import Genomes
from search_spaces.checked import errors_of

Vector = NDArray[np.float64]
MIN_SAMPLES = 10
"""Minimum number of evaluations for a meaningful cross-validation."""
FOLDS = 5
WITHOUT_CHECKS = {"skip_parameter_validation": True, "assume_finite": True}
"""Options of scikit-learn: inputs are checked once instead of in each of thousands of trees, which saves a
fifth of the time."""


@dataclass(frozen=True, slots=True)
class CrossValidated:
    """Quality of a predictor in cross-validation."""

    predictor: str
    """Name of the predictor."""
    tau: float
    """Kendall's τ-b, mean over the folds."""
    tau_std: float
    """Standard deviation of Kendall's τ-b over the folds."""
    rmse: float
    """Root mean squared error, in the unit of the metric."""
    predictions: Vector = field(compare=False, repr=False)
    """Held-out prediction of each subnet, shape (n,)."""


@one_thread
def cross_validate(
    features: Features,
    genomes: Genomes,
    values: Vector,
    predictors: Mapping[str, PredictorFactory] = CANDIDATES,
    *,
    seed: int,
) -> list[CrossValidated]:
    """Evaluate predictors by five-fold cross-validation with the same folds.

    Args:
        features: features of the space.
        genomes: evaluated subnets, shape (n, n_genes).
        values: the metric of each subnet, shape (n,).
        predictors: candidates by name.
        seed: seed of the folds and of the predictors.

    Returns:
        one entry per predictor, highest τ first.

    Raises:
        ValueError: there are fewer evaluations than `MIN_SAMPLES`, or a predictor fails or its predictions
            are not finite numbers.
    """
    if len(values) < MIN_SAMPLES:
        raise ValueError(f"a predictor needs >= {MIN_SAMPLES} evaluated subnets, got {len(values)}")
    if not np.isfinite(values).all():
        raise ValueError("a predictor needs values that are finite numbers")
    inputs = features(genomes)
    splits = list(KFold(FOLDS, shuffle=True, random_state=seed).split(inputs))
    entries = []
    for name, factory in predictors.items():
        predicted = np.zeros(len(values))
        for train, test in splits:
            with errors_of(f"the predictor {name!r}"), config_context(**WITHOUT_CHECKS):
                model = factory(features, seed).fit(inputs[train], values[train])
                held_out = model.predict(inputs[test])
            predicted[test] = predictions(name, held_out, genomes[test], features.space)
        taus = np.array([tau(predicted[test], values[test]) for _, test in splits])
        rmse = np.sqrt(np.mean((predicted - values) ** 2))
        entries.append(CrossValidated(name, float(taus.mean()), float(taus.std()), float(rmse), predicted))
    return sorted(entries, key=lambda entry: -entry.tau)


def fit_best(
    metric: str,
    features: Features,
    genomes: Genomes,
    values: Vector,
    predictors: Mapping[str, PredictorFactory] = CANDIDATES,
    *,
    seed: int,
) -> tuple[MetricModel, list[CrossValidated]]:
    """Fit the predictor with the highest cross-validated τ to all evaluations.

    Args:
        metric: name of the metric.
        features: features of the space.
        genomes: evaluated subnets, shape (n, n_genes).
        values: the metric of each subnet, shape (n,).
        predictors: candidates by name.
        seed: seed of the folds and of the predictors.

    Returns:
        the fitted predictor, and the result of `cross_validate`.

    Raises:
        ValueError: as `cross_validate`.
    """
    table = cross_validate(features, genomes, values, predictors, seed=seed)
    best = table[0].predictor
    return MetricModel.fit(metric, best, predictors[best], features, genomes, values, seed), table
