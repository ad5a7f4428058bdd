"""The quality of a run's predictor on held-out subnets."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
import pandas as pd
from pydantic import BaseModel

from nas.evaluation.calibration import Calibration
from nas.evaluation.deadline import evaluate_until
from nas.evaluation.trained_run import TrainedRun
from nas.evaluation.workers import Workers
from nas.progress import Progress, silent
from predictors import Features, PredictorFactory, agreement, fit_best, tau
from predictors.selection import MIN_SAMPLES

N_HELD_OUT = 100
"""Random subnets that are held out from the fit, at most half of them."""


MIN_HELD_OUT = 3
"""Fewer subnets give no meaningful rank correlation."""


class HeldOut(BaseModel):
    """One held-out subnet."""

    arch_id: str
    predicted: float
    real: float


class PredictorRecord(BaseModel):
    """`predictor.json`: the chosen predictor and its rank correlation on held-out random subnets."""

    name: str
    metric: str
    """The task's primary metric."""
    kendall_tau: float
    kendall_tau_low: float
    kendall_tau_high: float
    """Bounds of the bootstrap 95 % interval."""
    ceiling: float
    """Kendall τ between two evaluations of the held-out subnets with different calibration images."""
    n_train: int
    n_held_out: int
    held_out: list[HeldOut]


def evaluate_predictor(
    trained: TrainedRun,
    random: pd.DataFrame,
    candidates: Mapping[str, PredictorFactory],
    seed: int,
    *,
    workers: Workers | None = None,
    deadline: float | None = None,
    progress: Progress = silent,
) -> PredictorRecord | None:
    """Fit to the archive without some random subnets, and predict those.

    Args:
        trained: the run.
        random: evaluations of random search, with `arch`, `arch_id` and the metric, in the order of the draw.
        candidates: predictors to choose from, by cross-validation on the part that is fitted to.
        seed: of the predictors and the bootstrap.
        workers: where the held-out subnets are evaluated a second time; None: one thread per core.
        deadline: time by `time.monotonic`, in seconds, after which no more of them are.
        progress: called after each evaluation.

    Returns:
        None where there are too few subnets, or too little time, to evaluate a predictor.
    """
    n = min(N_HELD_OUT, len(random) // 2)
    held_out = random.iloc[-n:]
    known = trained.archive.frame("validation", trained.evaluator().calibration.key)
    rest = known[~known["arch_id"].isin(held_out["arch_id"])].sort_values("arch_id")
    if len(rest) < MIN_SAMPLES:
        return None
    archs = held_out["arch"].tolist()
    evaluator = trained.evaluator(calibration=Calibration(seed=1))
    evaluate = partial(evaluator, workers=workers, progress=progress)
    again = evaluate_until(evaluate, archs, "ceiling", deadline)
    n = len(again)
    if n < MIN_HELD_OUT:
        return None
    held_out, archs = held_out[:n], archs[:n]
    features, metric = Features(trained.space), trained.task.primary.metric
    genomes = trained.space.encode(rest["arch"])
    model, _ = fit_best(metric, features, genomes, rest[metric].to_numpy(), candidates, seed=seed)
    predicted, real = model.predict(trained.space.encode(archs)), held_out[metric].to_numpy()
    correlation = agreement(predicted, real, np.random.default_rng(seed))
    return PredictorRecord(
        name=model.predictor,
        metric=metric,
        kendall_tau=correlation.tau,
        kendall_tau_low=correlation.low,
        kendall_tau_high=correlation.high,
        ceiling=tau([metrics[metric] for metrics in again], real),
        n_train=len(rest),
        n_held_out=n,
        held_out=[
            HeldOut(arch_id=i, predicted=p, real=r)
            for i, p, r in zip(held_out["arch_id"], predicted, real, strict=True)
        ],
    )
