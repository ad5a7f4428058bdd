"""What the subnets of a step learn from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nas.recipes.groups import (
    ExternalDistillationConfig,
    InplaceDistillationConfig,
    NoDistillationConfig,
)
from nas.recipes.recipe import Recipe
from nas.tasks import Task
from nas.tasks.base import DistillationLoss

Loss = Callable[[Tensor], Tensor]
"""Called with the outputs (n, ...) of each subnet of a step in turn."""
Supervision = Callable[[Tensor, Tensor], Loss]
"""Called with the images and targets of a step; gives the loss for this step's subnets."""


@dataclass(frozen=True)
class FromTargets:
    """All subnets learn from the targets."""

    task: Task
    smoothing: float

    def __call__(self, x: Tensor, targets: Tensor) -> Loss:
        """See `Supervision`."""
        return lambda outputs: self.task.loss(outputs, targets, self.smoothing)


@dataclass(frozen=True)
class InPlace:
    """The first subnet learns from the targets, the others from it (BigNAS, Yu et al. 2020, §3.1)."""

    targets: FromTargets
    distil: DistillationLoss

    def __call__(self, x: Tensor, targets: Tensor) -> Loss:
        """See `Supervision`."""
        from_targets = self.targets(x, targets)
        teacher: list[Tensor] = []

        def loss(outputs: Tensor) -> Tensor:
            if teacher:
                return self.distil(outputs, teacher[0])
            teacher.append(self.targets.task.teacher_signal(outputs.detach()))
            return from_targets(outputs)

        return loss


@dataclass(frozen=True)
class External:
    """All subnets learn from frozen networks, whose signals are averaged, and with a weight from the targets.

    The networks normalise with the moments of the batch, as the subnets do (OFA's teacher, Cai et al. 2020).
    """

    targets: FromTargets
    distil: DistillationLoss
    teachers: Sequence[nn.Module]
    label_weight: float

    def __call__(self, x: Tensor, targets: Tensor) -> Loss:
        """See `Supervision`."""
        from_targets, task = self.targets(x, targets), self.targets.task
        with torch.no_grad():
            signals = [task.teacher_signal(teacher(x).float()) for teacher in self.teachers]
        signal = torch.stack(signals).mean(dim=0)

        def loss(outputs: Tensor) -> Tensor:
            distilled = self.distil(outputs, signal)
            return distilled + self.label_weight * from_targets(outputs) if self.label_weight else distilled

        return loss


def make_supervision(recipe: Recipe, task: Task, teachers: Sequence[nn.Module]) -> Supervision:
    """The supervision of the recipe; `teachers` are those of `external` distillation.

    Raises:
        ValueError: the task has no such distillation loss, or no label smoothing.
    """
    smoothing = recipe.loss.label_smoothing
    if smoothing and task.label_smoothing is None:
        raise ValueError(
            f"the task {recipe.task!r} has no label smoothing, got loss.label_smoothing {smoothing}; "
            f"leave it out"
        )
    targets = FromTargets(task, (task.label_smoothing if smoothing is None else smoothing) or 0.0)
    config = recipe.distillation
    match config:
        case NoDistillationConfig():
            return targets
        case InplaceDistillationConfig():
            return InPlace(targets, _distillation_loss(config.loss, recipe.task, task))
        case ExternalDistillationConfig():
            distil = _distillation_loss(config.loss, recipe.task, task)
            return External(targets, distil, teachers, config.label_weight)


def _distillation_loss(name: str | None, task_name: str, task: Task) -> DistillationLoss:
    name = name or next(iter(task.distillation_losses))
    if name not in task.distillation_losses:
        raise ValueError(
            f"distillation.loss must be one of {sorted(task.distillation_losses)} for the task "
            f"{task_name!r}, got {name!r}"
        )
    return task.distillation_losses[name]
