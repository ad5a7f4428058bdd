"""The quality of the predictor of a search, from the evaluations that the search made anyway.

Kendall's τ-b is computed from two kinds of predictions, both by models that were not fitted to the subnet:
predictions by five-fold cross-validation over all evaluations, and predictions that each round of the search
made before it evaluated its subnets. The subnets of a round lie near the front and differ less than all
subnets, so that their τ is usually lower.

The ceiling is τ between two evaluations of the same subnets with different calibration images. It needs
additional evaluations of a random part of the subnets, which a search makes only on request.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from pydantic import BaseModel

from nas.search.algorithms.prediction_log import BEFORE_EVALUATION, CROSS_VALIDATION
from nas.search.search_result import SearchResult
from predictors import agreement, tau

MIN_SUBNETS = 3
"""Fewer subnets give no meaningful rank correlation."""


class RankCorrelation(BaseModel):
    """Kendall's τ-b between two values of each subnet."""

    n: int
    """Number of subnets."""
    kendall_tau: float
    low: float
    high: float
    """Bounds of the bootstrap 95 % interval."""

    @classmethod
    def of(cls, a: ArrayLike, b: ArrayLike, seed: int) -> RankCorrelation | None:
        """The correlation of two sequences; None if they are shorter than `MIN_SUBNETS`."""
        x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
        if len(x) < MIN_SUBNETS:
            return None
        found = agreement(x, y, np.random.default_rng(seed))
        return cls(n=len(x), kendall_tau=found.tau, low=found.low, high=found.high)


class Round(BaseModel):
    """The predictions of one round of the search."""

    number: int
    predictor: str
    n_train: int
    """Evaluations that the predictor was fitted to."""
    n: int
    """Subnets that were predicted and then evaluated."""
    kendall_tau: float | None
    """None if there are fewer than `MIN_SUBNETS` subnets."""
    mean_absolute_error: float


class PredictorRecord(BaseModel):
    """`predictor.json`: the quality of the predictor of a search; the module describes the values."""

    name: str
    """The predictor of the last round."""
    metric: str
    """The task's primary metric if the search predicted it, otherwise the first one that it predicted."""
    cross_validation: RankCorrelation
    before_evaluation: RankCorrelation | None
    """From the predictions of all rounds together; None if there are too few."""
    ceiling: RankCorrelation | None
    """None if no subnets were evaluated again."""
    rounds: list[Round]


def predictor_record(
    result: SearchResult, primary: str, again: dict[str, dict[str, float]], seed: int
) -> PredictorRecord | None:
    """The record of a search.

    Args:
        result: the result of the search.
        primary: the primary metric of the task.
        again: metrics of a second evaluation with other calibration images, by arch id.
        seed: seed of the bootstrap.

    Returns:
        None if the search used no predictor.
    """
    if not result.cross_validation:
        return None
    metric = primary if primary in result.cross_validation else next(iter(result.cross_validation))
    predictions = result.predictions[result.predictions["metric"] == metric]
    validated, ahead = (
        predictions[predictions["kind"] == kind] for kind in (CROSS_VALIDATION, BEFORE_EVALUATION)
    )
    cross_validation = RankCorrelation.of(validated["predicted"], validated["evaluated"], seed)
    assert cross_validation is not None  # of at least 10 subnets
    first = validated.set_index("arch_id")["evaluated"][list(again)]
    second = [metrics[metric] for metrics in again.values()]
    return PredictorRecord(
        name=result.cross_validation[metric].predictor,
        metric=metric,
        cross_validation=cross_validation,
        before_evaluation=RankCorrelation.of(ahead["predicted"], ahead["evaluated"], seed),
        ceiling=RankCorrelation.of(first, second, seed),
        rounds=list(_rounds(ahead)),
    )


def _rounds(predictions: pd.DataFrame) -> Iterator[Round]:
    for number, (_, rows) in enumerate(predictions.groupby("round"), 1):
        predicted, evaluated = (rows[name].to_numpy(dtype=np.float64) for name in ("predicted", "evaluated"))
        yield Round(
            number=number,
            predictor=rows["predictor"].iloc[0],
            n_train=int(rows["n_train"].iloc[0]),
            n=len(rows),
            kendall_tau=tau(predicted, evaluated) if len(rows) >= MIN_SUBNETS else None,
            mean_absolute_error=float(np.abs(predicted - evaluated).mean()),
        )
