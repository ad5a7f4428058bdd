"""Fitted models that replace evaluations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas.search.algorithms.base import SearchTask
from nas.search.algorithms.history import History
from nas.search.problem.problem import Problem
from predictors import Features, MetricModel, cross_validate
from predictors.selection import FOLDS
from search_spaces import Genomes

Matrix = NDArray[np.float64]
SETTLED = 200
"""Evaluations after which the choice of the predictor is final."""


@dataclass(frozen=True)
class Surrogate:
    """A problem whose metrics are predicted; costs are still computed."""

    problem: Problem
    models: Mapping[str, MetricModel]
    """By metric."""

    def mean(self, genomes: Genomes) -> tuple[Matrix, Matrix]:
        """Predicted minimised objectives and violations; a `Score` for `evolve`."""
        metrics = {name: model.predict(genomes) for name, model in self.models.items()}
        return self.problem.as_minimization(genomes, metrics), self.problem.violations(genomes, metrics)

    def optimistic(self, genomes: Genomes, deviations: float) -> tuple[Matrix, Matrix]:
        """As `mean`, but each value is the better one of mean + and - `deviations` standard deviations."""
        predicted = {name: model.predict_std(genomes) for name, model in self.models.items()}
        high, low = (
            {name: mean + sign * deviations * std for name, (mean, std) in predicted.items()}
            for sign in (1, -1)
        )
        return (
            np.minimum(
                self.problem.as_minimization(genomes, high), self.problem.as_minimization(genomes, low)
            ),
            np.minimum(self.problem.violations(genomes, high), self.problem.violations(genomes, low)),
        )


class SurrogateFitter:
    """Fits surrogates to a growing set of evaluations.

    The predictor of each metric is chosen by cross-validation. As this takes more time than the fits, it is
    repeated only when the number of evaluations has doubled, and not after `SETTLED` of them. The first
    candidate is chosen unless the best one is better by more than two standard errors, because the
    uncertainty of the first candidate differs between subnets.

    Args:
        task: the arguments of the search; its `predictions` get the models of every fit.
    """

    def __init__(self, task: SearchTask) -> None:
        self._problem, self._predictors, self._log = task.problem, task.predictors, task.predictions
        self._features = Features(task.problem.space)
        self._seed = int(task.rng.integers(2**31))
        self._chosen: dict[str, str] = {}
        self._chosen_at = 0

    def __call__(self, history: History) -> Surrogate:
        """Fit a surrogate to all evaluations so far."""
        if self._chosen_at < SETTLED and len(history) >= 2 * self._chosen_at:
            self._chosen = {metric: self._choose(history, metric) for metric in self._problem.metrics}
            self._chosen_at = len(history)
        models = {
            metric: MetricModel.fit(
                metric,
                name,
                self._predictors[name],
                self._features,
                history.genomes,
                history.metrics[metric],
                self._seed,
            )
            for metric, name in self._chosen.items()
        }
        self._log.set_models(models, len(history))
        return Surrogate(self._problem, models)

    def _choose(self, history: History, metric: str) -> str:
        if len(self._predictors) == 1:
            return next(iter(self._predictors))
        values = history.metrics[metric]
        table = cross_validate(self._features, history.genomes, values, self._predictors, seed=self._seed)
        best = table[0]
        margin = 2 * best.tau_std / np.sqrt(FOLDS)
        near = {entry.predictor for entry in table if entry.tau >= best.tau - margin}
        return next(name for name in self._predictors if name in near)
