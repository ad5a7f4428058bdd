"""Which predictor to trust: the one whose order of unseen subnets is best."""

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
"""Cross-validation of fewer evaluations tells nothing."""
FOLDS = 5
CHECKED = {"skip_parameter_validation": True, "assume_finite": True}
"""For scikit-learn: the numbers are checked once, not in each of thousands of trees. It saves a fifth."""


@dataclass(frozen=True, slots=True)
class CrossValidated:
    """How a predictor did on subnets that it had not seen."""

    predictor: str
    tau: float
    """Kendall's τ-b, mean over the folds."""
    tau_std: float
    """Its standard deviation over the folds."""
    rmse: float
    """In the metric's unit."""
    predictions: Vector = field(compare=False, repr=False)
    """Of each subnet, by a model that was fitted without it, shape (n,)."""


@one_thread
def cross_validate(
    features: Features,
    genomes: Genomes,
    values: Vector,
    predictors: Mapping[str, PredictorFactory] = CANDIDATES,
    *,
    seed: int,
) -> list[CrossValidated]:
    """Judge predictors by five-fold cross-validation; all of them see the same folds.

    Args:
        features: of the space.
        genomes: evaluated subnets, shape (n, n_genes).
        values: their metric, shape (n,).
        predictors: the candidates by name.
        seed: of the folds and of whatever is random in a predictor.

    Returns:
        One entry per predictor, highest τ first.

    Raises:
        ValueError: fewer evaluations than `MIN_SAMPLES`, or a predictor fails or predicts no finite numbers.
    """
    if len(values) < MIN_SAMPLES:
        raise ValueError(f"a predictor needs >= {MIN_SAMPLES} evaluated subnets, got {len(values)}")
    if not np.isfinite(values).all():
        raise ValueError("a predictor needs values that are finite numbers")
    inputs = features(genomes)
    splits = list(KFold(FOLDS, shuffle=True, random_state=seed).split(inputs))
    entries = []
    for name, factory in predictors.items():
        guess = np.zeros(len(values))
        for train, test in splits:
            with errors_of(f"the predictor {name!r}"), config_context(**CHECKED):
                predicted = factory(features, seed).fit(inputs[train], values[train]).predict(inputs[test])
            guess[test] = predictions(name, predicted, genomes[test], features.space)
        taus = np.array([tau(guess[test], values[test]) for _, test in splits])
        rmse = np.sqrt(np.mean((guess - values) ** 2))
        entries.append(CrossValidated(name, float(taus.mean()), float(taus.std()), float(rmse), guess))
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
    """The predictor with the highest cross-validated τ, fitted to all evaluations, and the table behind it.

    Raises:
        ValueError: as `cross_validate`.
    """
    table = cross_validate(features, genomes, values, predictors, seed=seed)
    best = table[0].predictor
    return MetricModel.fit(metric, best, predictors[best], features, genomes, values, seed), table
