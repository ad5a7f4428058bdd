"""The result of a search: every evaluation, the front, and the fitted models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nas.search.algorithms.history import History
from nas.search.problem.hypervolume import hypervolume
from nas.search.problem.problem import Problem
from predictors import CrossValidated, Features, MetricModel, PredictorFactory, fit_best
from predictors.selection import MIN_SAMPLES
from search_spaces import Genomes
from search_spaces.costs import macs_table, params_table

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class SearchResult:
    """The result of a search."""

    problem: Problem
    algorithm: str
    evaluations: pd.DataFrame
    """Every subnet that was evaluated, in order: `arch_id`, `arch`; `predicted_METRIC` for each metric
    of the problem, by a model that had not seen the subnet (NaN where the evaluations are too few for one);
    all metrics as measured; each objective; `macs`, `params`, `feasible`, `on_front`."""
    models: Mapping[str, MetricModel]
    """By metric: the predictor, fitted to all evaluations; empty where these are too few."""
    cross_validation: Mapping[str, Sequence[CrossValidated]]
    """By metric: how the candidates did, the chosen one first."""
    reference: Vector
    """Reference point of the hypervolume: minimised objectives, fixed before the search."""
    hypervolume: float

    @classmethod
    def of(
        cls,
        problem: Problem,
        algorithm: str,
        history: History,
        measured: pd.DataFrame,
        predictors: Mapping[str, PredictorFactory],
        seed: int,
    ) -> Self:
        """The result of evaluations.

        Args:
            problem: what was searched for.
            algorithm: its name, for the record.
            history: the subnets, smallest and largest first; at least one keeps the limits.
            measured: all their metrics, one column each.
            predictors: candidates for the models; none: no models.
            seed: of whatever is random in them.
        """
        genomes, minimised = history.genomes, history.minimised
        feasible = history.feasible
        front, reference = history.front, history.reference
        models, tables, frame = {}, {}, _identity(problem, genomes)
        for metric, values in history.metrics.items():
            frame[f"predicted_{metric}"] = np.nan
            if predictors and len(genomes) >= MIN_SAMPLES:
                features = Features(problem.space)
                models[metric], table = fit_best(metric, features, genomes, values, predictors, seed=seed)
                tables[metric] = table
                frame[f"predicted_{metric}"] = table[0].predictions
        for name in measured:
            frame[name] = measured[name]
        for objective in problem.objectives:
            frame[objective.name] = problem.values(objective, genomes, history.metrics)
        frame["macs"] = macs_table(problem.space)(genomes)
        frame["params"] = params_table(problem.space)(genomes)
        frame["feasible"] = feasible
        frame["on_front"] = np.isin(np.arange(len(genomes)), front)
        volume = hypervolume(minimised[front], reference)
        return cls(problem, algorithm, frame, models, tables, reference, volume)

    def seen_as(self, problem: Problem) -> Self:
        """The same evaluations as another problem's, whose objectives and metrics are among this one's."""
        history = self.history(problem)
        minimised, feasible, front = history.minimised, history.feasible, history.front
        reference = history.reference
        frame = self.evaluations.assign(feasible=feasible, on_front=np.isin(np.arange(len(minimised)), front))
        volume = hypervolume(minimised[front], reference)
        return replace(self, problem=problem, evaluations=frame, reference=reference, hypervolume=volume)

    def history(self, problem: Problem) -> History:
        """The subnets and their metrics, for a problem of the same space."""
        history = History(problem)
        history.add(problem.space.encode(self.evaluations["arch"]), problem.metrics_in(self.evaluations))
        return history

    @property
    def front(self) -> pd.DataFrame:
        """The measured non-dominated subnets that keep the limits, sorted by the last objective."""
        rows = self.evaluations[self.evaluations["on_front"]]
        return rows.sort_values(self.problem.objectives[-1].name, kind="stable", ignore_index=True)

    def record(self) -> dict[str, Any]:
        """The figures of the search, as plain values for JSON."""
        return {
            "algorithm": self.algorithm,
            "objectives": [objective.name for objective in self.problem.objectives],
            "constraints": [str(constraint) for constraint in self.problem.constraints],
            "evaluations": len(self.evaluations),
            "reference": dict(
                zip(
                    (objective.name for objective in self.problem.objectives),
                    self.problem.to_user_units(self.reference).tolist(),
                    strict=True,
                )
            ),
            "hypervolume": self.hypervolume,
            "predictors": {
                metric: [
                    {"predictor": e.predictor, "tau": e.tau, "tau_std": e.tau_std, "rmse": e.rmse}
                    for e in entries
                ]
                for metric, entries in self.cross_validation.items()
            },
        }


def _identity(problem: Problem, genomes: Genomes) -> pd.DataFrame:
    archs = problem.space.decode(genomes)
    return pd.DataFrame({"arch_id": [arch.id for arch in archs], "arch": archs})
