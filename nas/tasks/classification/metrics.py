"""Metrics of classification."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from nas.tasks.metrics import Accumulator, Direction, MeanMetric, Metric


@dataclass(frozen=True, slots=True)
class CountMetric:
    """A metric that follows from the numbers of images of each class.

    Args:
        name: column name of its values.
        direction: whether small or large values are good.
        unit: unit of the values, such as `fraction`.
        function: called with three vectors (classes,): for each class, the numbers of images with this label,
            with this prediction, and with both.
    """

    name: str
    direction: Direction
    unit: str
    function: Callable[[Tensor, Tensor, Tensor], Tensor]

    def accumulator(self) -> Accumulator:
        """See `Metric`."""
        return _Counts(self.function)


@dataclass
class _Counts:
    function: Callable[[Tensor, Tensor, Tensor], Tensor]
    counts: Tensor | float = 0.0
    """Shape (3, classes)."""

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        classes, predictions = outputs.shape[1], outputs.argmax(1)
        groups = (targets, predictions, targets[predictions == targets])
        counts = torch.stack([torch.bincount(group, minlength=classes) for group in groups])
        self.counts = self.counts + counts.double()

    def result(self) -> float:
        assert isinstance(self.counts, Tensor)
        return float(self.function(*self.counts))


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits, labels, reduction="none")


def _correct(logits: Tensor, labels: Tensor) -> Tensor:
    return logits.argmax(1) == labels


def _balanced_accuracy(labelled: Tensor, predicted: Tensor, correct: Tensor) -> Tensor:
    """Mean recall over the classes that occur among the labels."""
    present = labelled > 0
    return (correct[present] / labelled[present]).mean()


def _macro_f1(labelled: Tensor, predicted: Tensor, correct: Tensor) -> Tensor:
    """Mean F1 over the classes that occur among the labels or the predictions."""
    present = labelled + predicted > 0
    return (2 * correct[present] / (labelled + predicted)[present]).mean()


METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        MeanMetric("cross_entropy", "min", "nats", _cross_entropy),
        MeanMetric("top1", "max", "fraction", _correct),
        CountMetric("balanced_accuracy", "max", "fraction", _balanced_accuracy),
        CountMetric("macro_f1", "max", "fraction", _macro_f1),
    )
}
