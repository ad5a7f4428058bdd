"""The steps of a search that evaluate subnets: the search, its random baseline, the predictor's record."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from nas.evaluation.trained_run import TrainedRun
from nas.evaluation.workers import Workers
from nas.plugins import check, resolve
from nas.progress import Progress, silent
from nas.search.options import SearchOptions
from nas.search.predictor_record import PredictorRecord, evaluate_predictor
from nas.search.problem.problem import LimitsNotMetError, Problem
from nas.search.search_loop import search
from nas.search.search_problem import read_front
from nas.search.search_result import SearchResult
from predictors import CANDIDATES, PREDICTORS, Features, PredictorFactory, Regressor
from predictors.selection import MIN_SAMPLES
from search_spaces import Space
from search_spaces.checked import errors_of

SEARCH_SHARE = 0.5
"""Share of the time for the search itself; its random baseline needs as long."""


@dataclass(frozen=True)
class Findings:
    """The results of the steps."""

    result: SearchResult
    random: SearchResult | None = None
    """Random search with equally many real evaluations, fewer if the time was up; None: no baseline."""
    no_baseline: str = "the search was stopped before its random baseline"
    """The reason if there is no baseline."""
    predictor: PredictorRecord | None = None
    """None if there were too few subnets, or too little time, to evaluate a predictor."""


class SearchSteps:
    """Runs the steps of a search one after the other.

    Args:
        trained: the run.
        problem: objectives and limits.
        options: of the search.
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
        workers: Workers | None = None,
        progress: Progress = silent,
    ) -> None:
        self._trained, self._problem, self._options = trained, problem, options
        self._workers, self._progress = workers, progress
        space = trained.space
        names = options.predictors or tuple(CANDIDATES)
        self._predictors = candidate_predictors(space, names, options.seed)
        self._start = None if options.warm_start is None else read_front(options.warm_start, space)
        evaluator = trained.evaluator(extra_metrics=problem.metrics)
        self._evaluate = partial(evaluator, workers=workers, progress=progress)
        self._began = time.monotonic()

    def search(self) -> SearchResult:
        """The search itself."""
        return search(
            self._problem,
            self._evaluate,
            algorithm=self._options.algorithm,
            budget=self._options.evaluations,
            seed=self._options.seed,
            predictors=self._predictors,
            start=self._start,
            deadline=self._options.deadline(self._began, SEARCH_SHARE),
            allow_import=True,
        )

    def compare(self, result: SearchResult) -> Findings:
        """The random baseline of a search, and the record of the predictor on it."""
        deadline = self._options.deadline(self._began)
        if deadline is not None and time.monotonic() > deadline:
            return Findings(result, no_baseline="the time was up")
        try:
            random = search(
                result.problem,
                self._evaluate,
                algorithm="random",
                budget=len(result.evaluations),
                seed=self._options.seed,
                predictors={},  # the comparison uses measured values
                deadline=deadline,
                origin="baseline",
            )
        except LimitsNotMetError:
            return Findings(result, no_baseline="random search found no subnet that meets the limits")
        predictor = evaluate_predictor(
            self._trained,
            random.evaluations,
            self._predictors,
            self._options.seed,
            workers=self._workers,
            deadline=deadline,
            progress=self._progress,
        )
        return Findings(result, random, "", predictor)


def candidate_predictors(space: Space, names: Sequence[str], seed: int) -> dict[str, PredictorFactory]:
    """Predictors by name.

    Raises:
        ValueError: unknown name, or a user's object that makes no `Regressor`.
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
