"""What a search minimises, maximises and limits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from nas.onnx_backend.file_size import FLOAT32, INT8
from nas.plugins import resolve
from search_spaces import Genomes, Space
from search_spaces.checked import errors_of, one_per_subnet

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]
Metrics = Mapping[str, Vector]
"""Metrics of subnets by name, one value per genome: measured by evaluation, or predicted."""


@runtime_checkable
class Objective(Protocol):
    """One quantity of a subnet, computed from its genome and its metrics."""

    @property
    def name(self) -> str:
        """As the user gave it; the column of the result."""

    @property
    def unit(self) -> str:
        """Such as `ms`; empty for a plain number."""

    @property
    def maximise(self) -> bool:
        """Whether more is better."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """Metrics that it reads, which only an evaluation gives; empty where the genome says it all."""

    def __call__(self, genomes: Genomes, metrics: Metrics) -> Vector:
        """Its value for each row of `genomes` (n, n_genes), shape (n,)."""


@dataclass(frozen=True)
class Measured:
    """An objective that is a metric of the evaluation."""

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
class Computed:
    """An objective that follows from the genome alone; it is never predicted by a model."""

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
    """A user's own objective, whose errors name it."""

    given: str
    """Name by which it was imported, `module:object`."""
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
    """What objectives are made from."""

    space: Space
    latency_ms: Mapping[str, Callable[[Genomes], Vector]]
    """By device: the latency in ms of each genome, shape (n,)."""
    device: str | None = None
    """The device that the objective's name asks for, as in `latency_ms@pi4`."""


ObjectiveFactory = Callable[[Context], Objective]
"""Makes an objective; a user's own (`module:object`) is such a function or class."""


def _latency(context: Context) -> Objective:
    devices = context.latency_ms
    if context.device is None and len(devices) == 1:
        return Computed("latency_ms", next(iter(devices.values())), "ms")
    if context.device is None or context.device not in devices:
        raise ValueError(
            f"latency_ms must name one of the devices {sorted(devices)}, as in latency_ms@NAME; "
            f"got {context.device or 'no name'}"
        )
    return Computed(f"latency_ms@{context.device}", devices[context.device], "ms")


OBJECTIVES: dict[str, ObjectiveFactory] = {
    "cross_entropy": lambda context: Measured("cross_entropy", "cross_entropy", "nats"),
    "accuracy": lambda context: Measured("accuracy", "top1", maximise=True),
    "latency_ms": _latency,
    "macs": lambda context: Computed("macs", context.space.macs_table),
    "params": lambda context: Computed("params", context.space.params_table),
    "peak_memory_bytes": lambda context: Computed(
        "peak_memory_bytes", context.space.peak_memory_table.largest, "B"
    ),
    "file_size_bytes": lambda context: Computed("file_size_bytes", FLOAT32.of(context.space), "B"),
    "int8_file_size_bytes": lambda context: Computed("int8_file_size_bytes", INT8.of(context.space), "B"),
}


RESERVED = {
    *("arch", "arch_id", "evaluated_as", "feasible", "keeps_limits", "latency_is"),
    *("macs", "measured_latency_ms", "metrics_are", "on_front", "params"),
}
"""Columns of results that a user's own objective cannot be named after."""


def is_latency(name: str) -> bool:
    """Whether the objective of this name is the latency on a device."""
    return name.partition("@")[0] == "latency_ms"


def get(name: str, context: Context, *, allow_import: bool = False) -> Objective:
    """The objective of this name, `name@device`, or a user's own as `module:object`.

    Raises:
        ValueError: no such objective or device, or the user's object makes no `Objective`.
    """
    kind, _, device = name.partition("@")
    factory = resolve("objective", kind, OBJECTIVES, allow_import=allow_import)
    asked = replace(context, device=device or None)
    return _own(name, factory, asked) if ":" in kind else factory(asked)


def _own(name: str, factory: ObjectiveFactory, context: Context) -> Objective:
    """The objective that a user's own factory makes, checked."""
    with errors_of(f"the objective {name!r}"):
        made = factory(context)
    if not isinstance(made, Objective):
        raise ValueError(f"the objective {name!r} must make an Objective (see its Protocol), got {made!r}")
    if not isinstance(made.name, str) or not made.name or made.name in RESERVED or is_latency(made.name):
        raise ValueError(f"the objective {name!r} must have a column name of its own, got {made.name!r}")
    if not isinstance(made.metrics, list | tuple) or not all(isinstance(m, str) for m in made.metrics):
        raise ValueError(
            f"the objective {name!r} must have a tuple of metrics' names as `metrics`, got {made.metrics!r}"
        )
    return OwnObjective(name, made)


@dataclass(frozen=True)
class Constraint:
    """A limit on an objective."""

    objective: Objective
    sense: Literal["max", "min"]
    bound: float

    def __str__(self) -> str:
        return f"{self.objective.name} {'<=' if self.sense == 'max' else '>='} {self.bound:g}"

    def violation(self, values: Vector) -> Vector:
        """value / limit - 1 (its negative for a lower limit): ≤ 0 where satisfied, shape (n,)."""
        excess = values / self.bound - 1
        return excess if self.sense == "max" else -excess


def parse_constraint(
    text: str, sense: Literal["max", "min"], context: Context, *, allow_import: bool = False
) -> Constraint:
    """The constraint that `text` such as `latency_ms=2` says.

    Raises:
        ValueError: it is not NAME=NUMBER, the number is not above 0, or there is no such objective.
    """
    name, _, number = text.rpartition("=")
    try:
        bound = float(number)
    except ValueError:
        bound = np.nan
    if not name or not 0 < bound < np.inf:
        raise ValueError(
            f"--{sense} must be NAME=NUMBER with a number > 0, such as latency_ms=2, got {text!r}"
        )
    return Constraint(get(name, context, allow_import=allow_import), sense, bound)


@dataclass(frozen=True)
class Problem:
    """What is searched for: the space, the objectives in the user's order, and the limits."""

    space: Space
    objectives: Sequence[Objective]
    constraints: Sequence[Constraint] = ()

    @property
    def metrics(self) -> tuple[str, ...]:
        """Every metric that an objective or a constraint reads, each once."""
        parts = [*self.objectives, *(constraint.objective for constraint in self.constraints)]
        return tuple(dict.fromkeys(metric for part in parts for metric in part.metrics))

    def values(self, objective: Objective, genomes: Genomes, metrics: Metrics) -> Vector:
        """One objective of subnets, shape (n,).

        Raises:
            ValueError: it gives anything else than finite numbers.
        """
        given = objective.given if isinstance(objective, OwnObjective) else objective.name
        source = f"the objective {given!r}"
        return one_per_subnet(source, objective(genomes, metrics), genomes, self.space)

    def minimised(self, genomes: Genomes, metrics: Metrics) -> Matrix:
        """The objectives, negated where more is better, shape (n, n_objectives)."""
        columns = [_sign(o) * self.values(o, genomes, metrics) for o in self.objectives]
        return np.stack(columns, axis=1)

    def violations(self, genomes: Genomes, metrics: Metrics) -> Matrix:
        """How far each constraint is exceeded, ≤ 0 where satisfied, shape (n, n_constraints)."""
        columns = [
            constraint.violation(self.values(constraint.objective, genomes, metrics))
            for constraint in self.constraints
        ]
        return np.stack(columns, axis=1) if columns else np.zeros((len(genomes), 0))

    def natural(self, minimised: Matrix) -> Matrix:
        """Objectives as the user knows them from minimised ones, or the other way round."""
        return minimised * [_sign(objective) for objective in self.objectives]


def _sign(objective: Objective) -> float:
    return -1.0 if objective.maximise else 1.0
