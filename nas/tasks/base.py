"""What a task decides: the meaning of a network's outputs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from nas.tasks.metrics import Metric

DistillationLoss = Callable[[Tensor, Tensor], Tensor]
"""Called with outputs and a teacher signal; gives the mean over the batch."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """A metric of a task as people read it."""

    metric: str
    """Its name among the task's metrics."""
    label: str
    """In tables, such as `top-1`."""
    axis: str
    """Title of a plot's axis, with the unit."""
    percent: bool = False
    """Whether a value such as 0.5 is written as 50 %."""
    noticeable: float = 0.0
    """Smallest loss by a lower precision that is worth a warning."""


class Task(ABC):
    """What a network's outputs mean. Training, evaluation, search, export and report ask it.

    Outputs and targets are tensors of any shape whose first axis is the image. A task has no state; one
    object serves all runs, and worker processes get a copy.
    """

    metrics: Mapping[str, Metric]
    """By name."""
    primary: Quantity
    """What predictors are fitted to and subnets ranked by."""
    headline: Quantity
    """What people read first; may be the primary one."""
    distillation_losses: Mapping[str, DistillationLoss]
    """By name; the first is the default."""
    label_smoothing: float | None = None
    """Default of the recipe's `label_smoothing`; None: the task has no such thing."""

    @property
    def shown(self) -> tuple[str, ...]:
        """Metrics that are computed for every subnet, each once."""
        return tuple(dict.fromkeys((self.primary.metric, self.headline.metric)))

    @abstractmethod
    def loss(self, outputs: Tensor, targets: Tensor, smoothing: float = 0.0) -> Tensor:
        """The loss on targets, mean over the batch.

        Args:
            outputs: of a network, shape (n, ...).
            targets: shape (n, ...).
            smoothing: how much the targets are smoothed; above 0 only where the task has `label_smoothing`.
        """

    def teacher_signal(self, outputs: Tensor) -> Tensor:
        """What a student learns from a teacher's outputs (n, ...); their mean where there are several."""
        return outputs

    def errors(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """How wrong the outputs are: norm of the gradient of each image's loss by its outputs, shape (n,)."""
        outputs = outputs.detach().requires_grad_()
        with torch.enable_grad():
            total = len(outputs) * self.loss(outputs, targets)
        (gradient,) = torch.autograd.grad(total, outputs)
        norms: Tensor = gradient.flatten(1).norm(dim=1)
        return norms

    def training_metric(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The headline metric of a batch of training, a scalar; NaN where it is not defined."""
        accumulator = self.metrics[self.headline.metric].accumulator()
        accumulator.update(outputs, targets)
        return outputs.new_tensor(accumulator.result())
