"""What the subnets of a step learn from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nas.recipes.recipe import Recipe
from nas.training.losses import DISTILLATION_LOSSES, DistillationLoss, label_loss

Loss = Callable[[Tensor], Tensor]
"""Called with the logits (n, classes) of each subnet of a step in turn."""
Supervision = Callable[[Tensor, Tensor], Loss]
"""Called with the images and labels of a step; what it returns knows what they teach."""


@dataclass(frozen=True)
class FromLabels:
    """All subnets learn from the labels."""

    smoothing: float

    def __call__(self, x: Tensor, labels: Tensor) -> Loss:
        """See `Supervision`."""
        return lambda logits: label_loss(logits, labels, self.smoothing)


@dataclass(frozen=True)
class InPlace:
    """The first subnet learns from the labels, the others from its outputs (BigNAS, Yu et al. 2020, §3.1)."""

    labels: FromLabels
    distil: DistillationLoss

    def __call__(self, x: Tensor, labels: Tensor) -> Loss:
        """See `Supervision`."""
        from_labels = self.labels(x, labels)
        teacher: list[Tensor] = []

        def loss(logits: Tensor) -> Tensor:
            if teacher:
                return self.distil(logits, teacher[0])
            teacher.append(logits.detach().softmax(dim=1))
            return from_labels(logits)

        return loss


@dataclass(frozen=True)
class External:
    """All subnets learn from the mean output of frozen networks, and from the labels too where these weigh.

    The networks normalise with the moments of the batch, as the subnets do (OFA's teacher, Cai et al. 2020).
    """

    labels: FromLabels
    distil: DistillationLoss
    teachers: Sequence[nn.Module]
    label_weight: float

    def __call__(self, x: Tensor, labels: Tensor) -> Loss:
        """See `Supervision`."""
        from_labels = self.labels(x, labels)
        with torch.no_grad():
            outputs = [teacher(x).float().softmax(dim=1) for teacher in self.teachers]
        teacher = torch.stack(outputs).mean(dim=0)

        def loss(logits: Tensor) -> Tensor:
            distilled = self.distil(logits, teacher)
            return distilled + self.label_weight * from_labels(logits) if self.label_weight else distilled

        return loss


SUPERVISIONS: Mapping[str, Callable[[Recipe, FromLabels, Sequence[nn.Module]], Supervision]] = {
    "none": lambda recipe, labels, teachers: labels,
    "inplace": lambda recipe, labels, teachers: InPlace(
        labels, DISTILLATION_LOSSES[recipe.distillation_loss]
    ),
    "external": lambda recipe, labels, teachers: External(
        labels, DISTILLATION_LOSSES[recipe.distillation_loss], teachers, recipe.label_weight
    ),
}


def make_supervision(recipe: Recipe, teachers: Sequence[nn.Module]) -> Supervision:
    """The supervision that the recipe names; `teachers` are those of `external`."""
    labels = FromLabels(recipe.label_smoothing)
    return SUPERVISIONS[recipe.distillation](recipe, labels, teachers)
