"""Losses of the subnets: from targets, in-place distillation or external teachers."""

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
from nas.runs.run_dir import RunDir
from nas.runs.weights import load_supernet
from nas.tasks import Task
from nas.tasks.base import DistillationLoss
from nas.torch_backend.elastic import ElasticBatchNorm
from nas.torch_backend.supernet import Supernet
from nas.training.loaders import resolutions_by_size
from search_spaces import Space

Loss = Callable[[Tensor], Tensor]
"""Returns the loss of a subnet from its outputs (n, ...); called with each subnet of a step in order."""
LossBuilder = Callable[[Tensor, Tensor], Loss]
"""Returns the loss of the subnets of a step from its images and targets."""


@dataclass(frozen=True)
class TargetLoss:
    """Trains all subnets on the targets."""

    task: Task
    smoothing: float

    def __call__(self, x: Tensor, targets: Tensor) -> Loss:
        """See `LossBuilder`."""
        return lambda outputs: self.task.loss(outputs, targets, self.smoothing)


@dataclass(frozen=True)
class InplaceDistillation:
    """Trains the first subnet on the targets and the others on its outputs (BigNAS, Yu et al. 2020, §3.1)."""

    targets: TargetLoss
    distil: DistillationLoss

    def __call__(self, x: Tensor, targets: Tensor) -> Loss:
        """See `LossBuilder`."""
        from_targets = self.targets(x, targets)
        teacher: list[Tensor] = []

        def loss(outputs: Tensor) -> Tensor:
            if teacher:
                return self.distil(outputs, teacher[0])
            teacher.append(self.targets.task.teacher_signal(outputs.detach()))
            return from_targets(outputs)

        return loss


@dataclass(frozen=True)
class ExternalTeacher:
    """Trains all subnets on the averaged outputs of frozen networks and, with a weight, on the targets.

    With `inplace`, all subnets of a step except the first learn from the mean of the teachers' outputs and
    the outputs of the first subnet.

    If a teacher is a supernet, its batch norms use the moments of the batch, as in the trained subnets (OFA's
    teacher, Cai et al. 2020). The batch norms of an imported network use its running statistics.
    """

    targets: TargetLoss
    distil: DistillationLoss
    teachers: Sequence[nn.Module]
    label_weight: float
    inplace: bool = False

    def __call__(self, x: Tensor, targets: Tensor) -> Loss:
        """See `LossBuilder`."""
        from_targets, task = self.targets(x, targets), self.targets.task
        with torch.no_grad():
            signals = [task.teacher_signal(teacher(x).float()) for teacher in self.teachers]
        signal = torch.stack(signals).mean(dim=0)

        first: list[Tensor] = []

        def loss(outputs: Tensor) -> Tensor:
            teacher = torch.stack([signal, *first]).mean(dim=0) if first else signal
            if self.inplace and not first:
                first.append(task.teacher_signal(outputs.detach()))
            distilled = self.distil(outputs, teacher)
            return distilled + self.label_weight * from_targets(outputs) if self.label_weight else distilled

        return loss


def make_supervision(recipe: Recipe, task: Task, teachers: Sequence[nn.Module]) -> LossBuilder:
    """Create the losses of a recipe.

    Args:
        recipe: the recipe.
        task: the task.
        teachers: teachers of external distillation, see `load_teachers`.

    Raises:
        ValueError: the task does not have the distillation loss or the label smoothing of the recipe.
    """
    smoothing = recipe.loss.label_smoothing
    if smoothing and task.label_smoothing is None:
        raise ValueError(
            f"the task {recipe.task!r} has no label smoothing, got loss.label_smoothing {smoothing}; "
            f"leave it out"
        )
    targets = TargetLoss(task, (task.label_smoothing if smoothing is None else smoothing) or 0.0)
    config = recipe.distillation
    match config:
        case NoDistillationConfig():
            return targets
        case InplaceDistillationConfig():
            return InplaceDistillation(targets, _distillation_loss(config.loss, recipe.task, task))
        case ExternalDistillationConfig():
            distil = _distillation_loss(config.loss, recipe.task, task)
            return ExternalTeacher(targets, distil, teachers, config.label_weight, config.inplace)


def _distillation_loss(name: str | None, task_name: str, task: Task) -> DistillationLoss:
    name = name or next(iter(task.distillation_losses))
    if name not in task.distillation_losses:
        raise ValueError(
            f"distillation.loss must be one of {sorted(task.distillation_losses)} for the task "
            f"{task_name!r}, got {name!r}"
        )
    return task.distillation_losses[name]


INIT = "init"
"""Name of the teacher that is the run from which training starts (`init`)."""


def load_teachers(
    recipe: Recipe, space: Space, output_names: Sequence[str], device: torch.device
) -> list[nn.Module]:
    """Load the teachers of a recipe.

    Args:
        recipe: the recipe, which names the runs.
        space: the space of the trained supernet.
        output_names: names of the outputs of the data set.
        device: device of the teachers.

    Returns:
        the largest subnet of each run; an empty list without external distillation.

    Raises:
        ValueError: a teacher is not a trained run, or has other outputs or channels.
    """
    if not isinstance(recipe.distillation, ExternalDistillationConfig):
        return []
    names = [recipe.init if name == INIT else name for name in recipe.distillation.teachers]
    return [_load(name, space, output_names).to(device) for name in names]


def _load(name: str | None, space: Space, output_names: Sequence[str]) -> nn.Module:
    if name is None:
        raise ValueError(f"the teacher {INIT!r} needs the key init, a run from which training starts")
    run = RunDir.open(name)
    info = run.info()
    teacher_names = info.output_names or list(output_names)  # an imported run may have no names
    teacher = load_supernet(run)
    config = teacher.space.config
    if teacher_names != list(output_names) or config.outputs != len(output_names):
        raise ValueError(
            f"the teacher {name} must have the {len(output_names)} outputs of the data set, in the same order"
        )
    if config.channels != space.config.channels:
        raise ValueError(
            f"the teacher {name} must take images of {space.config.channels} channels, got {config.channels}"
        )
    is_network = info.imported is not None and not info.imported.subnets_trained
    return Teacher(teacher, list(resolutions_by_size(space)), own_statistics=is_network)


class Teacher(nn.Module):
    """The largest subnet of a trained supernet, frozen, for images of several sizes.

    Pooling depends on whether the size of the feature maps is odd, so each image size has its own operators.

    Args:
        supernet: the trained supernet.
        sizes: sizes of the images in pixels.
        own_statistics: whether batch norms use their running statistics instead of the moments of the batch.
    """

    def __init__(self, supernet: Supernet, sizes: Sequence[int], *, own_statistics: bool = False) -> None:
        super().__init__()
        self.supernet = supernet.requires_grad_(requires_grad=False).train()
        for module in supernet.modules():
            if own_statistics and isinstance(module, ElasticBatchNorm):
                module.eval()
        self.archs = dict.fromkeys(sizes, supernet.space.largest)
        if not supernet.space.resizes:
            config = supernet.space.config
            supernet.space = supernet.space.with_data(
                outputs=config.outputs, channels=config.channels, resolutions=tuple(sorted(sizes))
            )
            self.archs = {size: supernet.space.largest | {"resolution": size} for size in sizes}

    def forward(self, x: Tensor) -> Tensor:
        """Outputs (n, n_outputs) of images (n, channels, size, size)."""
        logits: Tensor = self.supernet(x, self.archs[x.shape[-1]])
        return logits
