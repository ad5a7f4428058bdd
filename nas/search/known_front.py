"""The front of a device from the evaluations and the surrogate of a run, without search, torch or evaluation.

Candidates are the evaluated subnets and the exact front of the stored surrogate under the device's latency
table. The RMSE of the surrogate is added to each prediction, so that a predicted subnet replaces a measured
one only if it is better by more than this error. For a device whose precision is not fp32, subnets that the
search evaluated in this precision come first; the others are used only if none of these satisfies the limits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hw_profiles.device import Device
from nas.evaluation.archive import open_archive
from nas.runs.files import FRONT, SEARCH, SEARCH_CSV, SURROGATE
from nas.runs.folder import Folder
from nas.runs.run_dir import RunDir
from nas.runs.tables import EVALUATED_AS, PRECISION, accuracy_in, predicted_in
from nas.search.problem import objectives as objective_table
from nas.search.problem.exact_front import nondominated_rows
from nas.search.problem.exact_problem import is_additive, problem_front
from nas.search.problem.objectives import Context, MetricObjective, Metrics, is_latency
from nas.search.problem.problem import Problem, parse_constraints, unsatisfied
from nas.search.search_space import in_floating_point, searched_space
from nas.search.stored_surrogate import StoredSurrogate
from search_spaces import Genomes
from search_spaces.precision_space import PrecisionSpace
from search_spaces.tensors import FP32, MIXED

Matrix = NDArray[np.float64]
MEASURED, PREDICTED, TABLE = "measured", "predicted", "table"
"""Sources of a number: an evaluation or the device, the surrogate, and the device's latency table."""


@dataclass(frozen=True)
class _Group:
    """Subnets whose metrics come from one source."""

    source: str
    evaluated_as: str
    """See `EVALUATED_AS`."""
    genomes: Genomes
    metrics: Metrics
    minimised: Matrix
    """Minimised objectives, shape (n, m); predictions have their error added."""
    excess: NDArray[np.float64]
    """Sum of the violations of the limits, shape (n,); predictions have their error added."""


def known_front(
    run: RunDir,
    device: Device,
    *,
    maxima: Sequence[str] = (),
    minima: Sequence[str] = (),
    objectives: Sequence[str] = (),
    allow_import: bool = False,
) -> tuple[pd.DataFrame, Matrix]:
    """The front of all evaluated and predicted subnets, for a device.

    Args:
        run: a run that was searched. The objectives are taken from its search for this device, or from its
            last search if it was not searched for this device.
        device: where the subnets will run.
        maxima: upper limits such as `latency_ms=3`.
        minima: lower limits such as `accuracy=0.95`.
        objectives: the user's own objectives of the search (`module:object`) that may be imported.
        allow_import: whether every `module:object` that the run names may be imported.

    Returns:
        A row for each subnet: `arch_id`, `arch`, each objective, `metrics_are` (measured or
        predicted), `evaluated_as` (the precision of the metrics, as in the search), `measured_latency_ms` if
        the search measured it on this very device, `latency_is` (measured or table), `keeps_limits` (always
        true, with the error of predictions added); and the objectives to be minimised, shape (n, m).

    Raises:
        ValueError: the run was not searched yet, an objective was not used by the search or may not be
            imported, the table lacks blocks, or no subnet satisfies the limits.
    """
    name = device.profile.name
    search = run.search(name if name in run.searched() else None)
    record = search.read_json(SEARCH)
    searched = searched_space(run.space(), record)
    space = searched if device.profile.key.precision == MIXED else run.space()
    # a surrogate of the space with the precision as a choice does not fit the run's space, or vice versa
    has_surrogate = isinstance(space, PrecisionSpace) == isinstance(searched, PrecisionSpace)
    surrogate = search.read_model(SURROGATE, StoredSurrogate) if has_surrogate else None
    metrics = {part: MetricObjective(**fields) for part, fields in record["metric_objectives"].items()}
    context = Context(space, metrics, {name: device.latency(space)})
    limits = parse_constraints(maxima, minima, context, allow_import=True)
    names = dict.fromkeys("latency_ms" if is_latency(part) else part for part in record["objectives"])
    own_objectives = record.get("own_objectives", {})
    sources = [own_objectives.get(part, part) for part in names]
    unknown = sorted(set(objectives) - set(sources))
    if unknown:
        raise ValueError(
            f"--objective must be an objective of the search, one of {sources}, got {', '.join(unknown)}"
        )
    found = [
        objective_table.get(source, context, allow_import=allow_import or source in objectives)
        for source in sources
    ]
    problem = Problem(space, found, limits)

    own = record["device"] == name
    archive = open_archive(run, record.get("validation_images"))
    evaluated = archive.frame("validation", record["calibration"])
    if isinstance(space, PrecisionSpace):
        evaluated = in_floating_point(evaluated, space)
    groups = _groups(problem, evaluated, surrogate, device, search if own else None)
    minimised = np.concatenate([group.minimised for group in groups])
    kept = np.flatnonzero(np.concatenate([group.excess for group in groups]) == 0)
    if len(kept) == 0:
        raise ValueError(_closest(problem, groups))
    front = kept[nondominated_rows(minimised[kept])]
    front = front[np.argsort(minimised[front, -1], kind="stable")]
    table = _frame(problem, groups, front)
    return _with_latency(table, search if own else None), minimised[front]


def _closest(problem: Problem, groups: Sequence[_Group]) -> str:
    """The message if no subnet satisfies the limits."""
    group = min(groups, key=lambda group: float(group.excess.min(initial=np.inf)))
    best = [int(group.excess.argmin())]
    metrics = {name: values[best] for name, values in group.metrics.items()}
    return unsatisfied(problem, group.genomes[best], metrics)


def _groups(
    problem: Problem,
    frame: pd.DataFrame,
    surrogate: StoredSurrogate | None,
    device: Device,
    search: Folder | None,
) -> list[_Group]:
    """Subnets evaluated in fp32 (`frame`) or as the device computes them, and predicted subnets.

    `search` has the results of a search for this very device. In mixed precision, subnets that it evaluated
    in fp32 because they have no INT8 count as deployed.
    """
    precision = device.profile.key.precision
    deployed: list[_Group] = []
    if precision != FP32 and search is not None:
        evaluated = search.read_csv(SEARCH_CSV)
        exact = [accuracy_in(precision), *([accuracy_in(FP32)] if precision == MIXED else [])]
        parts = [(name, evaluated[evaluated[EVALUATED_AS] == name]) for name in exact]
        evaluated = pd.concat([rows for _, rows in parts])
        deployed = [_measured(problem, rows, name) for name, rows in parts]
        if any((group.excess == 0).any() for group in deployed):
            return deployed
        frame = frame[~frame["arch_id"].isin(evaluated["arch_id"])]
    return [*deployed, _measured(problem, frame, accuracy_in(FP32)), *_predicted(problem, surrogate)]


def _measured(problem: Problem, frame: pd.DataFrame, evaluated_as: str) -> _Group:
    """The group of the rows of `frame` that have all metrics."""
    frame = frame.reindex(columns=["arch", *problem.metrics]).dropna()
    genomes = problem.space.encode(frame["arch"])
    metrics = problem.metrics_in(frame)
    minimised, excess = problem.as_minimization(genomes, metrics), problem.excess(genomes, metrics)
    return _Group(MEASURED, evaluated_as, genomes, metrics, minimised, excess)


def _predicted(problem: Problem, surrogate: StoredSurrogate | None) -> list[_Group]:
    """The exact front of the surrogate as a group; empty if there is none."""
    if surrogate is None or not is_additive(problem) or not set(problem.metrics) <= set(surrogate.metrics):
        return []
    stored = {name: surrogate.metrics[name] for name in problem.metrics}
    models = {name: metric.table(problem.space) for name, metric in stored.items()}
    genomes = problem_front(problem, models).genomes
    metrics = {name: model(genomes) for name, model in models.items()}
    high, low = (
        {name: values + sign * stored[name].rmse for name, values in metrics.items()} for sign in (1, -1)
    )
    minimised = np.maximum(problem.as_minimization(genomes, high), problem.as_minimization(genomes, low))
    violations = np.maximum(problem.violations(genomes, high), problem.violations(genomes, low))
    excess = np.maximum(violations, 0).sum(axis=1)
    mixed = isinstance(problem.space, PrecisionSpace)
    evaluated_as = predicted_in(MIXED) if mixed else accuracy_in(FP32)
    return [_Group(PREDICTED, evaluated_as, genomes, metrics, minimised, excess)]


def _frame(problem: Problem, groups: Sequence[_Group], rows: NDArray[np.intp]) -> pd.DataFrame:
    """A table of the subnets at the indices `rows` of the concatenated groups."""
    objectives = {
        o.name: np.concatenate([problem.values(o, group.genomes, group.metrics) for group in groups])[rows]
        for o in problem.objectives
    }
    archs = problem.space.decode(np.concatenate([group.genomes for group in groups])[rows])
    columns: dict[str, list[Any]] = {"arch_id": [arch.id for arch in archs], "arch": archs}
    if isinstance(problem.space, PrecisionSpace):
        columns[PRECISION] = list(map(problem.space.precision_text, archs))
    sizes = [len(group.genomes) for group in groups]
    source = np.repeat([group.source for group in groups], sizes)[rows]
    evaluated_as = np.repeat([group.evaluated_as for group in groups], sizes)[rows]
    frame = pd.DataFrame(columns | objectives)
    return frame.assign(metrics_are=source, keeps_limits=True, **{EVALUATED_AS: evaluated_as})


def _with_latency(table: pd.DataFrame, search: Folder | None) -> pd.DataFrame:
    """The table with the latencies that the search for this very device measured, if there was one."""
    if search is not None:
        measured = search.read_csv(FRONT)[["arch_id", "measured_latency_ms"]]
        table = table.merge(measured, on="arch_id", how="left")
    else:
        table["measured_latency_ms"] = np.nan
    known = table["measured_latency_ms"].notna()
    return table.assign(latency_is=np.where(known, MEASURED, TABLE))
