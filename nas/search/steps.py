"""The steps of a search that evaluate subnets: the search, its noise ceiling and its random baseline."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from nas.evaluation.calibration import Calibration
from nas.evaluation.deadline import Evaluate, evaluate_until
from nas.evaluation.deployed import Target
from nas.evaluation.deployed_evaluator import DeployedEvaluator
from nas.evaluation.trained_run import TrainedRun
from nas.evaluation.workers import Workers
from nas.plugins import check, resolve
from nas.progress import Progress, silent
from nas.search.mixed_evaluation import MixedEvaluation
from nas.search.options import SearchOptions
from nas.search.predictor_record import PredictorRecord, predictor_record
from nas.search.problem.problem import LimitsNotMetError, Problem
from nas.search.search_loop import search
from nas.search.search_problem import read_front
from nas.search.search_result import SearchResult
from nas.search.two_stage import second_stage
from predictors import CANDIDATES, PREDICTORS, Features, PredictorFactory, Regressor
from predictors.selection import MIN_SAMPLES
from search_spaces import Space
from search_spaces.checked import errors_of
from search_spaces.precision_space import PrecisionSpace


@dataclass(frozen=True)
class Findings:
    """The results of the steps."""

    result: SearchResult
    predictor: PredictorRecord | None = None
    """None if the search used no predictor."""
    random: SearchResult | None = None
    """Random search with as many evaluations, fewer if the time was up; None: no baseline."""
    no_baseline: str = ""
    """The reason if a baseline was requested and is missing."""


class SearchSteps:
    """Runs the steps of a search one after the other.

    Args:
        trained: the run.
        problem: objectives and limits.
        options: the options of the search.
        target: the device as a target of exports, for evaluations as deployed.
        workers: where subnets are evaluated; None: one thread per core.
        progress: called after each evaluation.

    Raises:
        ValueError: unknown predictors, or a warm start that cannot be used.
    """

    def __init__(
        self,
        trained: TrainedRun,
        problem: Problem,
        options: SearchOptions,
        target: Target,
        workers: Workers | None = None,
        progress: Progress = silent,
    ) -> None:
        self._trained, self._problem, self._options = trained, problem, options
        self._target, self._workers, self._progress = target, workers, progress
        space = problem.space
        names = options.predictors or tuple(CANDIDATES)
        self._predictors = candidate_predictors(space, names, options.seed)
        self._start = None if options.warm_start is None else read_front(options.warm_start, space)
        self._first = trained.with_validation_images(options.screen_images)
        self._evaluate = self._evaluation(self._first)
        self._began = time.monotonic()

    def search(self) -> Findings:
        """Run the search itself, with its second stage if it has one."""
        result = search(
            self._problem,
            self._evaluate,
            algorithm=self._options.algorithm,
            budget=self._options.n_subnets(mixed=isinstance(self._problem.space, PrecisionSpace)),
            seed=self._options.seed,
            predictors=self._predictors,
            start=self._start,
            deadline=self._options.search_deadline(self._began),
            allow_import=True,
        )
        missing = "the search was stopped before its random baseline" if self._options.baseline else ""
        record = self._record(result, {})
        if isinstance(self._evaluate, MixedEvaluation):
            result = self._evaluate.with_other_precisions(result)
        return Findings(self._second_stage(result, "search"), record, no_baseline=missing)

    def compare(self, findings: Findings) -> Findings:
        """The findings of `search` with the noise ceiling and the random baseline, if they are requested."""
        result = findings.result
        record = findings.predictor and self._record(result, self._evaluated_again(result))
        if self._options.baseline is None:
            return Findings(result, record)
        deadline = self._options.deadline(self._began)
        if deadline is not None and time.monotonic() > deadline:
            return Findings(result, record, no_baseline="the time limit was reached")
        try:
            random = search(
                result.problem,
                self._evaluate,
                algorithm="random",
                budget=len(_first_stage(result)),
                seed=self._options.seed,
                deadline=deadline,
                origin="baseline",
            )
            random = self._second_stage(random, "baseline")
        except LimitsNotMetError:
            reason = "random search found no subnet that meets the limits"
            return Findings(result, record, no_baseline=reason)
        return Findings(result, record, random)

    def _evaluation(self, trained: TrainedRun) -> Evaluate:
        """A function that evaluates subnets of the problem's space on the images of a run."""
        in_float, space = self._in_float(trained), self._problem.space
        if not isinstance(space, PrecisionSpace):
            return in_float
        metrics = trained.evaluator(extra_metrics=self._problem.metrics).metrics
        deployed = DeployedEvaluator(trained, self._target, metrics, self._progress)
        share = self._options.deployed_evaluations / self._options.n_subnets(mixed=True)
        return MixedEvaluation(space, in_float, deployed, share)

    def _in_float(self, trained: TrainedRun, calibration: Calibration | None = None) -> Evaluate:
        """A function that evaluates subnets of the run's space in floating point."""
        evaluator = trained.evaluator(calibration=calibration, extra_metrics=self._problem.metrics)
        return partial(evaluator, workers=self._workers, progress=self._progress)

    def _second_stage(self, result: SearchResult, origin: str) -> SearchResult:
        """The result after the second stage, if the search has two."""
        if self._options.screen_images is None:
            return result
        deadline = self._options.deadline(self._began)
        return second_stage(result, self._evaluation(self._trained), origin, deadline)

    def _evaluated_again(self, result: SearchResult) -> dict[str, dict[str, float]]:
        """Metrics of some subnets of the first stage with other calibration images, by arch id."""
        evaluations = _first_stage(result)
        rng = np.random.default_rng(self._options.seed)
        rows = rng.permutation(len(evaluations))[: self._options.noise_ceiling]
        archs = evaluations["arch"].iloc[rows].tolist()
        evaluate = self._in_float(self._first, Calibration(seed=1))
        if isinstance(self._evaluate, MixedEvaluation):
            evaluate = partial(self._evaluate.again, in_float=evaluate)
        deadline = self._options.search_deadline(self._began)
        metrics = evaluate_until(evaluate, archs, "noise ceiling", deadline)
        return {arch.id: values for arch, values in zip(archs, metrics, strict=False)}  # up to the deadline

    def _record(self, result: SearchResult, again: dict[str, dict[str, float]]) -> PredictorRecord | None:
        return predictor_record(result, self._trained.task.primary.metric, again, self._options.seed)


def _first_stage(result: SearchResult) -> pd.DataFrame:
    """All evaluations that the search made in its first or only stage."""
    return result.evaluations if result.screening is None else result.screening


def candidate_predictors(space: Space, names: Sequence[str], seed: int) -> dict[str, PredictorFactory]:
    """Predictors by name.

    Raises:
        ValueError: a name is unknown, or a user's object does not make a `Regressor`.
    """
    factories = {name: resolve("predictor", name, PREDICTORS, allow_import=True) for name in names}
    if space.n_subnets < MIN_SAMPLES:  # nothing will be predicted
        return factories
    features = Features(space)
    for name, factory in factories.items():
        with errors_of(f"the predictor {name!r}"):
            made = factory(features, seed)
        check("predictor", name, made, Regressor)
    return factories
