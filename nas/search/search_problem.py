"""The problem of a search: objectives and limits for one device or several, and the first subnets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hw_profiles.device import Device
from nas.runs.files import FRONT
from nas.runs.run_dir import RunDir
from nas.runs.tables import read_subnets
from nas.search.problem import objectives as objective_table
from nas.search.problem.objectives import Context, MetricObjective, Objective, is_latency
from nas.search.problem.problem import Problem, parse_constraints
from nas.tasks import Task
from search_spaces import Arch, Genomes, Space
from search_spaces.precision_space import PrecisionSpace
from search_spaces.tensors import FP32, INT8


def metric_objectives(task: Task) -> dict[str, MetricObjective]:
    """The objectives that are metrics of a task, by name."""
    found = {name: task.metrics[metric] for name, metric in task.objectives.items()}
    return {
        name: MetricObjective(name, task.objectives[name], metric.unit, maximise=metric.direction == "max")
        for name, metric in found.items()
    }


def make_problem(
    space: Space,
    task: Task,
    device: Device,
    objectives: Sequence[str] = (),
    maxima: Sequence[str] = (),
    minima: Sequence[str] = (),
    others: Sequence[Device] = (),
    *,
    allow_import: bool = False,
) -> Problem:
    """Objectives and limits by name, for one device or for several.

    Args:
        space: the space of the subnets.
        task: the task, whose metrics are objectives.
        device: the first device.
        objectives: names; none: the task's primary metric and the latency.
        maxima: upper limits such as `latency_ms=2`.
        minima: lower limits such as `accuracy=0.95`.
        others: further devices.
        allow_import: as in `plugins.resolve`.

    Raises:
        ValueError: unknown or repeated names, or limits that are not NAME=NUMBER.
    """
    objectives = objectives or (task.primary_objective, "latency_ms")
    devices = {d.profile.name: d.latency(space) for d in (device, *others)}
    if others:
        every = [f"latency_ms@{name}" for name in devices]
        objectives = [part for name in objectives for part in (every if name == "latency_ms" else [name])]
    context = Context(space, metric_objectives(task), devices)
    limits = parse_constraints(maxima, minima, context, allow_import=allow_import)
    found = [objective_table.get(name, context, allow_import=allow_import) for name in objectives]
    used = [part.name for part in found]
    repeated = next((name for name in used if used.count(name) > 1), None)
    if repeated is not None:
        raise ValueError(
            f"the objectives must have different names, got {repeated!r} twice; leave out one of them"
        )
    return Problem(space, found, limits)


def problem_on(problem: Problem, device: Device) -> Problem:
    """The problem for one of several devices: without the latencies on the others."""

    def concerns(objective: Objective) -> bool:
        kind, _, name = objective.name.partition("@")
        return not is_latency(kind) or name in ("", device.profile.name)

    limits = [limit for limit in problem.constraints if concerns(limit.objective)]
    return Problem(problem.space, [o for o in problem.objectives if concerns(o)], limits)


def read_front(path: Path, space: Space) -> Genomes:
    """The subnets of a searched run, or of the table of a front, as genomes of `space`, shape (n, n_genes).

    Raises:
        ValueError: there is no such table, or its subnets are of another space.
    """
    rule = f"--warm-start must be a searched run or a CSV file with the column arch, got {path}"
    run = RunDir(path)
    if path.is_dir() and run.last_device is None:
        raise ValueError(f"{rule}: it was not searched yet")
    file = run.search().file(FRONT) if path.is_dir() else path
    try:
        table = read_subnets(file, ["arch"])
    except (OSError, ValueError) as error:
        raise ValueError(f"{rule}: {error}") from None
    found = [space.encode([])]
    for line, arch in table["arch"].items():
        try:
            found.append(space.encode(_versions(space, arch)))
        except ValueError as error:
            raise ValueError(f"{file}, line {line}: {error}") from None
    return np.concatenate(found)


def _versions(space: Space, arch: Arch) -> list[Arch]:
    """The arch; if the precision is a choice in `space` but not given in the arch, its fp32 and INT8
    versions."""
    if isinstance(space, PrecisionSpace) and arch.keys() <= space.base.choices.keys():
        return [space.uniform(arch, FP32), space.uniform(arch, INT8)]
    return [arch]
