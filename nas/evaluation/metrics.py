"""How good the logits of a network are, by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nas import plugins
from search_spaces.checked import errors_of

Direction = Literal["min", "max"]


@runtime_checkable
class Metric(Protocol):
    """A number that says how good logits are; a user's own one is an object like this."""

    @property
    def name(self) -> str:
        """Column name of its values."""

    @property
    def direction(self) -> Direction:
        """Whether small or large values are good."""

    @property
    def unit(self) -> str:
        """Such as `nats`; empty for a plain number."""

    def __call__(self, logits: Tensor, labels: Tensor) -> float:
        """The value for `logits` (n, classes) and `labels` (n,), indices of classes."""


@dataclass(frozen=True, slots=True)
class LogitMetric:
    """A metric from a function of logits (n, classes) and labels (n,)."""

    name: str
    direction: Direction
    unit: str
    function: Callable[[Tensor, Tensor], Tensor]

    def __call__(self, logits: Tensor, labels: Tensor) -> float:
        """The value for `logits` (n, classes) and `labels` (n,)."""
        return float(self.function(logits.double(), labels))


def _top1(logits: Tensor, labels: Tensor) -> Tensor:
    return (logits.argmax(1) == labels).double().mean()


def _balanced_accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean recall over the classes that occur among the labels."""
    hits, labelled, _ = _counts(logits, labels)
    present = labelled > 0
    return (hits[present] / labelled[present]).mean()


def _macro_f1(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean F1 over the classes that occur among the labels or the predictions."""
    hits, labelled, predicted = _counts(logits, labels)
    present = labelled + predicted > 0
    return (2 * hits[present] / (labelled + predicted)[present]).mean()


def _counts(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """For each class: images predicted rightly, labelled, predicted."""
    classes, predictions = logits.shape[1], logits.argmax(1)
    hits = torch.bincount(labels[predictions == labels], minlength=classes)
    labelled = torch.bincount(labels, minlength=classes)
    predicted = torch.bincount(predictions, minlength=classes)
    return hits.double(), labelled.double(), predicted.double()


METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        LogitMetric("cross_entropy", "min", "nats", F.cross_entropy),
        LogitMetric("top1", "max", "fraction", _top1),
        LogitMetric("balanced_accuracy", "max", "fraction", _balanced_accuracy),
        LogitMetric("macro_f1", "max", "fraction", _macro_f1),
    )
}


def compute(metrics: Mapping[str, Metric], logits: Tensor, labels: Tensor, of: str) -> dict[str, float]:
    """Values of metrics by name.

    Args:
        metrics: by name.
        logits: shape (n, classes).
        labels: shape (n,).
        of: whose logits they are, for messages.

    Raises:
        ValueError: a metric raises, or gives anything else than one finite number.
    """
    return {name: _number(name, metric, logits, labels, of) for name, metric in metrics.items()}


def _number(name: str, metric: Metric, logits: Tensor, labels: Tensor, of: str) -> float:
    source = f"the metric {name!r}"
    with errors_of(source):
        value: object = metric(logits, labels)
        array = np.asarray(value.detach().cpu() if isinstance(value, Tensor) else value)
    if array.size != 1 or array.dtype.kind not in "biuf":
        raise ValueError(
            f"{source} must give a number, got {type(value).__name__} of shape {array.shape} and type "
            f"{array.dtype} for {of}"
        )
    number = float(array.item())
    if not math.isfinite(number):
        remedy = "; the training diverged: train again with a smaller lr" if name in METRICS else ""
        raise ValueError(f"{source} must give a finite number, got {number} for {of}{remedy}")
    return number


def get(name: str, *, allow_import: bool = False) -> Metric:
    """The metric of this name.

    Args:
        name: a key of `METRICS`, or `module:object` of a user's own `Metric`.
        allow_import: whether `module:object` may be imported, see `plugins.resolve`.

    Raises:
        ValueError: unknown name, or an object that is no metric.
    """
    metric = plugins.resolve("metric", name, METRICS, Metric, allow_import=allow_import)
    if metric.direction not in ("min", "max"):
        raise ValueError(f"the metric {name!r} must have direction 'min' or 'max', got {metric.direction!r}")
    return metric
