"""The base class of tasks, which define the meaning of a network's outputs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nas.data.dataset import Augment, Dataset
from nas.tasks.metrics import Metric

DistillationLoss = Callable[[Tensor, Tensor], Tensor]
"""Called with outputs and a teacher signal; returns the mean over the batch."""
Mixer = Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]]
"""Called with images, targets and a seed; returns mixed images and their mixed targets."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """How a metric of a task is displayed."""

    metric: str
    """Name of the metric."""
    label: str
    """Name in tables, such as `top-1`."""
    axis: str
    """Title of a plot's axis, with the unit."""
    percent: bool = False
    """Whether a value such as 0.5 is written as 50 %."""
    noticeable: float = 0.0
    """Smallest loss by a lower precision that is worth a warning."""


class Task(ABC):
    """The meaning of a network's outputs, for training, evaluation, search, export and report.

    Outputs and targets are tensors of any shape whose first axis is the image. A task has no state: one
    object is used for all runs, and worker processes get a copy.
    """

    metrics: Mapping[str, Metric]
    """The metrics by name."""
    primary: Quantity
    """The metric that predictors are fitted to and subnets are ranked by."""
    headline: Quantity
    """The metric that is shown first in tables and plots; may be the primary one."""
    distillation_losses: Mapping[str, DistillationLoss]
    """The distillation losses by name; the first is the default."""
    label_smoothing: float | None = None
    """Default of the recipe's `label_smoothing`; None: the task has no label smoothing."""

    augmentations: Mapping[str, Augment] = {}
    """Augmentations by name that a recipe may choose instead of the data set's own."""

    @property
    def quantities(self) -> tuple[Quantity, ...]:
        """The primary and the headline metric, each once."""
        return tuple(dict.fromkeys((self.primary, self.headline)))

    def quantity(self, metric: str) -> Quantity:
        """How a metric is displayed, for metrics that are not shown by name."""
        shown = {quantity.metric: quantity for quantity in self.quantities}
        return shown.get(metric, Quantity(metric, metric, metric))

    @property
    def shown(self) -> tuple[str, ...]:
        """Names of the metrics that are computed for every subnet."""
        return tuple(quantity.metric for quantity in self.quantities)

    @property
    def objectives(self) -> Mapping[str, str]:
        """Metrics that a search may have as objectives, by the name of the objective."""
        return {name: name for name in self.shown}

    @property
    def primary_objective(self) -> str:
        """The objective that is the primary metric."""
        return next(name for name, metric in self.objectives.items() if metric == self.primary.metric)

    @abstractmethod
    def loss(self, outputs: Tensor, targets: Tensor, smoothing: float = 0.0) -> Tensor:
        """The loss on targets, mean over the batch.

        Args:
            outputs: outputs of a network, shape (n, ...).
            targets: targets of the images, shape (n, ...).
            smoothing: how much the targets are smoothed; above 0 only if the task has `label_smoothing`.
        """

    @abstractmethod
    def check(self, name: str, dataset: Dataset) -> None:
        """Check that a data set has targets of this task.

        Args:
            name: name of the data set, for messages.
            dataset: the data set.

        Raises:
            ValueError: the data set has other targets, or too few outputs.
        """

    def describe(self, output_names: Sequence[str]) -> str:
        """Description of the outputs of networks, such as `3 classes`."""
        return f"outputs {', '.join(output_names)}"

    def strata(self, targets: NDArray[Any]) -> NDArray[np.int64]:
        """Stratum of each image, shape (n,); in samples of images, each stratum has the same share as here.

        Args:
            targets: targets of the images, shape (n, ...).
        """
        return np.zeros(len(targets), dtype=np.int64)

    def mixer(self, n_outputs: int, mixup_alpha: float, cutmix_alpha: float) -> Mixer | None:
        """Mixup and cutmix, one of the two for each batch; None: the targets of the task cannot be mixed.

        Args:
            n_outputs: number of output names.
            mixup_alpha: parameter of the beta distribution of the shares; 0: no mixup.
            cutmix_alpha: parameter of the beta distribution of the areas; 0: no cutmix.
        """
        return None

    def card(self, dataset: Dataset) -> dict[str, Any]:
        """Entries of an exported model's card that describe the outputs of the model."""
        return {"output_names": list(dataset.output_names)}

    def teacher_signal(self, outputs: Tensor) -> Tensor:
        """Convert a teacher's outputs (n, ...) to a student's targets, which are averaged over teachers."""
        return outputs

    def errors(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Norm of the gradient of each image's loss with respect to the outputs, shape (n,)."""
        outputs = outputs.detach().requires_grad_()
        with torch.enable_grad():
            total = len(outputs) * self.loss(outputs, targets)
        (gradient,) = torch.autograd.grad(total, outputs)
        norms: Tensor = gradient.flatten(1).norm(dim=1)
        return norms

    def training_metric(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The headline metric of a training batch, a scalar; NaN if it is not defined."""
        accumulator = self.metrics[self.headline.metric].accumulator()
        accumulator.update(outputs, targets)
        return outputs.new_tensor(accumulator.result())
