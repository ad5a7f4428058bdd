"""What the subnets of a step learn from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

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


SUPERVISIONS: Mapping[
    str, Callable[[Recipe, FromTargets, DistillationLoss, Sequence[nn.Module]], Supervision]
] = {
    "none": lambda recipe, targets, distil, teachers: targets,
    "inplace": lambda recipe, targets, distil, teachers: InPlace(targets, distil),
    "external": lambda recipe, targets, distil, teachers: External(
        targets, distil, teachers, recipe.label_weight
    ),
}


def make_supervision(recipe: Recipe, task: Task, teachers: Sequence[nn.Module]) -> Supervision:
    """The supervision that the recipe names; `teachers` are those of `external`.

    Raises:
        ValueError: the task has no such distillation loss, or no label smoothing.
    """
    if recipe.label_smoothing and task.label_smoothing is None:
        raise ValueError(
            f"the task {recipe.task!r} has no label smoothing, got label_smoothing {recipe.label_smoothing}; "
            f"leave it out"
        )
    smoothing = task.label_smoothing if recipe.label_smoothing is None else recipe.label_smoothing
    name = recipe.distillation_loss or next(iter(task.distillation_losses))
    if name not in task.distillation_losses:
        raise ValueError(
            f"distillation_loss must be one of {sorted(task.distillation_losses)} for the task "
            f"{recipe.task!r}, got {name!r}"
        )
    targets = FromTargets(task, smoothing or 0.0)
    return SUPERVISIONS[recipe.distillation](recipe, targets, task.distillation_losses[name], teachers)
