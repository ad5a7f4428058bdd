"""The quantities that a search minimises, maximises or limits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from nas.onnx_backend.file_size import ALL_INT8, BY_PRECISION
from nas.plugins import resolve
from search_spaces import Genomes, Space
from search_spaces.checked import errors_of
from search_spaces.costs import macs_table, params_table, peak_memory_table

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]
Metrics = Mapping[str, Vector]
"""Metrics of subnets by name, one value per genome: measured by evaluation, or predicted."""


@runtime_checkable
class Objective(Protocol):
    """One quantity of a subnet, a function of its genome and its metrics."""

    @property
    def name(self) -> str:
        """Name of the column in the results."""

    @property
    def unit(self) -> str:
        """The unit, such as `ms`; empty for a number without unit."""

    @property
    def maximise(self) -> bool:
        """Whether more is better."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """Metrics of an evaluation that the objective reads; empty if it depends on the genome alone."""

    def __call__(self, genomes: Genomes, metrics: Metrics) -> Vector:
        """The value for each row of `genomes` (n, n_genes), shape (n,)."""


@dataclass(frozen=True)
class MetricObjective:
    """A metric of the evaluation."""

    name: str
    metric: str
    unit: str = ""
    maximise: bool = False

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metric alone."""
        return (self.metric,)

    def __call__(self, genomes: Genomes, metrics: Metrics) -> Vector:
        """See `Objective`."""
        return metrics[self.metric]


@dataclass(frozen=True)
class CostObjective:
    """A quantity that is computed from the genome; no predictor is fitted to it."""

    name: str
    compute: Callable[[Genomes], Vector]
    unit: str = ""
    maximise: bool = False
    metrics: tuple[str, ...] = ()

    def __call__(self, genomes: Genomes, metrics: Metrics) -> Vector:
        """See `Objective`."""
        return self.compute(genomes)


@dataclass(frozen=True)
class OwnObjective:
    """A user's own objective; errors in it are reported with its name."""

    given: str
    """`module:object` from which it was imported."""
    objective: Objective

    @property
    def name(self) -> str:
        """See `Objective`."""
        return self.objective.name

    @property
    def unit(self) -> str:
        """See `Objective`."""
        return self.objective.unit

    @property
    def maximise(self) -> bool:
        """See `Objective`."""
        return bool(self.objective.maximise)

    @property
    def metrics(self) -> tuple[str, ...]:
        """See `Objective`."""
        return tuple(self.objective.metrics)

    def __call__(self, genomes: Genomes, metrics: Metrics) -> Vector:
        """See `Objective`."""
        with errors_of(f"the objective {self.given!r}"):
            return self.objective(genomes, metrics)


@dataclass(frozen=True)
class Context:
    """The arguments of objective factories."""

    space: Space
    metrics: Mapping[str, MetricObjective]
    """By name: the objectives that are metrics of the task."""
    latency_ms: Mapping[str, Callable[[Genomes], Vector]]
    """By device: the latency in ms of each genome, shape (n,)."""
    device: str | None = None
    """The device in the objective's name, such as `pi4` in `latency_ms@pi4`."""


ObjectiveFactory = Callable[[Context], Objective]
"""Makes an objective; a user's own (`module:object`) is such a function or class."""


def _metric(name: str, context: Context) -> Objective:
    return context.metrics[name]


def _latency(context: Context) -> Objective:
    devices = context.latency_ms
    if context.device is None and len(devices) == 1:
        return CostObjective("latency_ms", next(iter(devices.values())), "ms")
    if context.device is None or context.device not in devices:
        raise ValueError(
            f"latency_ms must name one of the devices {sorted(devices)}, as in latency_ms@NAME; "
            f"got {context.device or 'no name'}"
        )
    return CostObjective(f"latency_ms@{context.device}", devices[context.device], "ms")


OBJECTIVES: dict[str, ObjectiveFactory] = {
    "latency_ms": _latency,
    "macs": lambda context: CostObjective("macs", macs_table(context.space)),
    "params": lambda context: CostObjective("params", params_table(context.space)),
    "peak_memory_bytes": lambda context: CostObjective(
        "peak_memory_bytes", peak_memory_table(context.space).largest, "B"
    ),
    "file_size_bytes": lambda context: CostObjective("file_size_bytes", BY_PRECISION.of(context.space), "B"),
    "int8_file_size_bytes": lambda context: CostObjective(
        "int8_file_size_bytes", ALL_INT8.of(context.space), "B"
    ),
}
"""Objectives that depend on the architecture alone; the task adds its metrics, see `Context`."""


RESERVED = {
    *("arch", "arch_id", "evaluated_as", "feasible", "keeps_limits", "latency_is"),
    *("macs", "measured_latency_ms", "metrics_are", "on_front", "params", "precision"),
}
"""Columns of the results, which a user's own objective may not be named after."""


def is_latency(name: str) -> bool:
    """Whether this is the name of a latency, on any device."""
    return name.partition("@")[0] == "latency_ms"


def get(name: str, context: Context, *, allow_import: bool = False) -> Objective:
    """The objective of this name, `name@device`, or a user's own as `module:object`.

    Raises:
        ValueError: no such objective or device, or the user's factory returns no `Objective`.
    """
    kind, _, device = name.partition("@")
    table = OBJECTIVES | {part: partial(_metric, part) for part in context.metrics}
    factory = resolve("objective", kind, table, allow_import=allow_import)
    context = replace(context, device=device or None)
    return _own(name, factory, context) if ":" in kind else factory(context)


def _own(name: str, factory: ObjectiveFactory, context: Context) -> Objective:
    """The checked result of a user's own factory."""
    with errors_of(f"the objective {name!r}"):
        made = factory(context)
    if not isinstance(made, Objective):
        raise ValueError(f"the objective {name!r} must make an Objective (see its Protocol), got {made!r}")
    if not isinstance(made.name, str) or not made.name or made.name in RESERVED or is_latency(made.name):
        raise ValueError(
            f"the objective {name!r} must have a `name` that no other column has, got {made.name!r}"
        )
    if not isinstance(made.metrics, list | tuple) or not all(isinstance(m, str) for m in made.metrics):
        raise ValueError(
            f"the objective {name!r} must have a tuple of metric names as `metrics`, got {made.metrics!r}"
        )
    return OwnObjective(name, made)
