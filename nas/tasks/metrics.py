"""Metrics: measures of the quality of a network's outputs, accumulated over batches."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from nas import plugins
from search_spaces.checked import errors_of

Direction = Literal["min", "max"]


class Accumulator(Protocol):
    """The state of a metric during one pass over a split."""

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Add a batch of outputs (n, ...) and targets (n, ...)."""

    def result(self) -> float:
        """The value over all batches so far."""


@runtime_checkable
class Metric(Protocol):
    """A measure of the quality of outputs; `MeanMetric` and `SplitMetric` make metrics from functions."""

    @property
    def name(self) -> str:
        """Column name of its values."""

    @property
    def direction(self) -> Direction:
        """Whether small or large values are good."""

    @property
    def unit(self) -> str:
        """Unit of the values, such as `nats`; empty for a plain number."""

    def accumulator(self) -> Accumulator:
        """A new accumulator, without any batch."""


@dataclass(frozen=True, slots=True)
class MeanMetric:
    """The mean of a function over all its values, such as one per image or one per pixel.

    Args:
        name: column name of its values.
        direction: whether small or large values are good.
        unit: unit of the values, such as `nats`; empty for a plain number.
        function: returns a tensor of values for outputs (n, ...), in float64, and targets (n, ...).
    """

    name: str
    direction: Direction
    unit: str
    function: Callable[[Tensor, Tensor], Tensor]

    def accumulator(self) -> Accumulator:
        """See `Metric`."""
        return _Mean(self.function)


@dataclass(frozen=True, slots=True)
class SplitMetric:
    """A function of all outputs and targets of a split; the outputs are held in memory until the end.

    Args:
        name: column name of its values.
        direction: whether small or large values are good.
        unit: unit of the values, such as `nats`; empty for a plain number.
        function: returns one number for the outputs (n, ...) and targets (n, ...) of all images.
    """

    name: str
    direction: Direction
    unit: str
    function: Callable[[Tensor, Tensor], Any]

    def accumulator(self) -> Accumulator:
        """See `Metric`."""
        return _Split(self.function)


@dataclass
class _Mean:
    function: Callable[[Tensor, Tensor], Tensor]
    total: Tensor | float = 0.0
    count: int = 0

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        values = self.function(outputs.double(), targets)
        self.total = self.total + values.sum(dtype=torch.float64)
        self.count += values.numel()

    def result(self) -> float:
        return float(self.total) / self.count


@dataclass
class _Split:
    function: Callable[[Tensor, Tensor], Any]
    outputs: list[Tensor] = field(default_factory=list)
    targets: list[Tensor] = field(default_factory=list)

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        self.outputs.append(outputs)
        self.targets.append(targets)

    def result(self) -> Any:
        return self.function(torch.cat(self.outputs), torch.cat(self.targets))


class Accumulators:
    """Several metrics of one network over the same batches.

    Args:
        metrics: the metrics by name.
        of: name of the network, for messages.
    """

    def __init__(self, metrics: Mapping[str, Metric], of: str) -> None:
        self.of = of
        self.by_name: dict[str, Accumulator] = {}
        for name, metric in metrics.items():
            with errors_of(_source(name)):
                self.by_name[name] = metric.accumulator()

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Add a batch.

        Raises:
            ValueError: a metric raises an error.
        """
        for name, accumulator in self.by_name.items():
            with errors_of(_source(name)):
                accumulator.update(outputs, targets)

    def results(self) -> dict[str, float]:
        """The values by name.

        Raises:
            ValueError: a metric raises an error, or does not return one finite number.
        """
        return {name: self._number(name, accumulator) for name, accumulator in self.by_name.items()}

    def _number(self, name: str, accumulator: Accumulator) -> float:
        source = _source(name)
        with errors_of(source):
            value: object = accumulator.result()
            array = np.asarray(value.detach().cpu() if isinstance(value, Tensor) else value)
        if array.size != 1 or array.dtype.kind not in "biuf":
            raise ValueError(
                f"{source} must return a number, got {type(value).__name__} of shape {array.shape} and type "
                f"{array.dtype} for {self.of}"
            )
        number = float(array.item())
        if not math.isfinite(number):
            remedy = "" if ":" in name else "; the training diverged: train again with a smaller lr"
            raise ValueError(f"{source} must return a finite number, got {number} for {self.of}{remedy}")
        return number


def _source(name: str) -> str:
    return f"the metric {name!r}"


def get(name: str, table: Mapping[str, Metric], *, allow_import: bool = False) -> Metric:
    """The metric of this name.

    Args:
        name: a key of `table`, or `module:object` of a user's own `Metric`.
        table: the metrics of the task.
        allow_import: whether `module:object` may be imported, see `plugins.resolve`.

    Raises:
        ValueError: unknown name, or an object that is no metric.
    """
    metric = plugins.resolve("metric", name, table, Metric, allow_import=allow_import)
    if metric.direction not in ("min", "max"):
        raise ValueError(f"the metric {name!r} must have direction 'min' or 'max', got {metric.direction!r}")
    return metric
