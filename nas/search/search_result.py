"""The result of a search: every evaluation, the front, and the predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nas.runs.tables import PRECISION
from nas.search.algorithms.history import History
from nas.search.algorithms.prediction_log import CROSS_VALIDATION, PredictionLog
from nas.search.problem.hypervolume import hypervolume
from nas.search.problem.problem import Problem
from predictors import PREDICTORS, CrossValidated, Features, PredictorFactory, cross_validate
from predictors.selection import FOLDS, MIN_SAMPLES
from search_spaces import Arch, Genomes
from search_spaces.costs import macs_table, params_table
from search_spaces.precision_space import PrecisionSpace

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class SearchResult:
    """The result of a search."""

    problem: Problem
    algorithm: str
    evaluations: pd.DataFrame
    """Every subnet that was evaluated, in order: `arch_id`, `arch`; `precision` of its blocks, if this is a
    choice; `predicted_METRIC` for each metric of the problem, by cross-validation, if the search used a
    predictor; all metrics as evaluated; each objective; `macs`, `params`, `feasible`, `on_front`."""
    predictions: pd.DataFrame
    """All predictions of the subnets by models that were not fitted to them, with the columns of
    `nas.search.algorithms.prediction_log`; predictions by cross-validation have round 0."""
    cross_validation: Mapping[str, CrossValidated]
    """By metric: five-fold cross-validation, on all evaluations, of the predictor that the search used last;
    empty if it used none."""
    reference: Vector
    """Reference point of the hypervolume: minimised objectives, fixed before the search."""
    hypervolume: float
    screening: pd.DataFrame | None = None
    """The evaluations of the first stage on a part of the images, if there were two stages. Then
    `evaluations` has the subnets of the second stage, with their metrics of the first stage as
    `screened_METRIC`."""

    @classmethod
    def of(
        cls,
        problem: Problem,
        algorithm: str,
        history: History,
        measured: pd.DataFrame,
        log: PredictionLog,
        predictors: Mapping[str, PredictorFactory],
        seed: int,
    ) -> Self:
        """The result of evaluations.

        Args:
            problem: the problem of the search.
            algorithm: its name, for the record.
            history: the subnets, smallest and largest first; at least one keeps the limits.
            measured: all their metrics, one column each.
            log: the predictions of the search.
            predictors: candidates of the search, by name.
            seed: seed of the cross-validation.
        """
        genomes, minimised = history.genomes, history.minimised
        feasible = history.feasible
        front, reference = history.front, history.reference
        frame, predictions = _identity(problem, genomes), [log.frame()]
        validated: dict[str, CrossValidated] = {}
        for metric, model in log.models.items() if len(genomes) >= MIN_SAMPLES else ():
            factory = {model.predictor: (PREDICTORS | dict(predictors))[model.predictor]}
            values = history.metrics[metric]
            (validated[metric],) = cross_validate(
                Features(problem.space), genomes, values, factory, seed=seed
            )
            frame[f"predicted_{metric}"] = validated[metric].predictions
            predictions.append(_cross_validated(frame, metric, validated[metric], values))
        for name in measured:
            frame[name] = measured[name]
        for objective in problem.objectives:
            frame[objective.name] = problem.values(objective, genomes, history.metrics)
        frame["macs"] = macs_table(problem.space)(genomes)
        frame["params"] = params_table(problem.space)(genomes)
        frame["feasible"] = feasible
        frame["on_front"] = np.isin(np.arange(len(genomes)), front)
        volume = hypervolume(minimised[front], reference)
        table = pd.concat(predictions, ignore_index=True)
        return cls(problem, algorithm, frame, table, validated, reference, volume)

    def evaluated_again(self, rows: NDArray[np.intp], measured: Sequence[Mapping[str, float]]) -> Self:
        """The result of a second stage.

        Args:
            rows: indices of rows of `evaluations`, the smallest and the largest subnet first.
            measured: their metrics on all images.
        """
        first, metrics = self.evaluations.iloc[rows].reset_index(drop=True), pd.DataFrame(measured)
        history = History(self.problem)
        history.add(self.problem.space.encode(first["arch"]), self.problem.metrics_in(metrics))
        screened = first[list(metrics)].add_prefix("screened_")
        frame = first.join(screened)
        frame[metrics.columns] = metrics
        for objective in self.problem.objectives:
            frame[objective.name] = self.problem.values(objective, history.genomes, history.metrics)
        again = replace(self, evaluations=frame, screening=self.evaluations)
        return again.seen_as(self.problem)

    def with_evaluations(self, archs: Sequence[Arch], measured: Sequence[Mapping[str, float]]) -> Self:
        """The result with further evaluated subnets, which the search did not propose.

        Args:
            archs: the subnets, none of which is in `evaluations`.
            measured: all their metrics.
        """
        if not archs:
            return self
        problem, metrics = self.problem, pd.DataFrame(measured)
        genomes = problem.space.encode(archs)
        frame = _identity(problem, genomes).join(metrics)
        for objective in problem.objectives:
            frame[objective.name] = problem.values(objective, genomes, problem.metrics_in(metrics))
        frame["macs"] = macs_table(problem.space)(genomes)
        frame["params"] = params_table(problem.space)(genomes)
        table = pd.concat([self.evaluations, frame], ignore_index=True)
        return replace(self, evaluations=table).seen_as(problem)

    def seen_as(self, problem: Problem) -> Self:
        """The same evaluations for another problem, whose objectives and metrics are among those of this
        problem."""
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
            "evaluations": len(self.evaluations if self.screening is None else self.screening),
            "fully_evaluated": len(self.evaluations),
            "reference": dict(
                zip(
                    (objective.name for objective in self.problem.objectives),
                    self.problem.to_user_units(self.reference).tolist(),
                    strict=True,
                )
            ),
            "hypervolume": self.hypervolume,
            "predictors": {
                metric: {"predictor": e.predictor, "tau": e.tau, "tau_std": e.tau_std, "rmse": e.rmse}
                for metric, e in self.cross_validation.items()
            },
        }


def _identity(problem: Problem, genomes: Genomes) -> pd.DataFrame:
    archs = problem.space.decode(genomes)
    frame = pd.DataFrame({"arch_id": [arch.id for arch in archs], "arch": archs})
    if isinstance(problem.space, PrecisionSpace):
        frame[PRECISION] = list(map(problem.space.precision_text, archs))
    return frame


def _cross_validated(
    frame: pd.DataFrame, metric: str, validated: CrossValidated, values: Vector
) -> pd.DataFrame:
    """Predictions by cross-validation as rows of `SearchResult.predictions`."""
    return pd.DataFrame(
        {
            "kind": CROSS_VALIDATION,
            "round": 0,
            "arch_id": frame["arch_id"],
            "metric": metric,
            "predictor": validated.predictor,
            "n_train": len(values) - len(values) // FOLDS,
            "predicted": validated.predictions,
            "evaluated": values,
        }
    )
