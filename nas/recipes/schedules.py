"""Learning rate schedules: the factor on the peak learning rate after the warm-up."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field

from nas.recipes.keys import Group
from nas.recipes.values import Fraction, NotNegative, Positive


class _Schedule(Group):
    kind: str
    warmup_epochs: NotNegative = 1.0
    """Length of the linear warm-up."""


class _Decay(_Schedule):
    min_lr_factor: Fraction = 0.0
    """Lower bound of the learning rate after the warm-up, as a factor on the peak."""


class CosineSchedule(_Decay):
    """Half a cosine (Loshchilov and Hutter 2017) over the epochs after the warm-up."""

    kind: Literal["cosine"] = "cosine"

    def factor(self, epoch: float, warmup: float, epochs: float) -> float:
        """Factor after `epoch` of `epochs` epochs, the first `warmup` of which are warm-up."""
        return max(self.min_lr_factor, _half_cosine((epoch - warmup) / max(epochs - warmup, 1e-9)))


class CosineFromStartSchedule(_Decay):
    """Half a cosine over all epochs, the warm-up included."""

    kind: Literal["cosine_from_start"] = "cosine_from_start"

    def factor(self, epoch: float, warmup: float, epochs: float) -> float:
        """See `CosineSchedule.factor`."""
        return max(self.min_lr_factor, _half_cosine(epoch / epochs))


class ExponentialSchedule(_Decay):
    """A factor `decay` every `decay_epochs`, counted from the start (BigNAS, Yu et al. 2020)."""

    kind: Literal["exponential"] = "exponential"
    decay: Fraction = 0.97
    """Factor on the learning rate."""
    decay_epochs: Positive = 2.4
    """Epochs between two decays."""

    def factor(self, epoch: float, warmup: float, epochs: float) -> float:
        """See `CosineSchedule.factor`."""
        return max(self.min_lr_factor, float(self.decay ** (epoch // self.decay_epochs)))


class ConstantSchedule(_Schedule):
    """The peak learning rate."""

    kind: Literal["constant"] = "constant"

    def factor(self, epoch: float, warmup: float, epochs: float) -> float:
        """See `CosineSchedule.factor`."""
        return 1.0


Schedule = Annotated[
    CosineSchedule | CosineFromStartSchedule | ExponentialSchedule | ConstantSchedule,
    Field(discriminator="kind"),
]


def _half_cosine(share: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * share))
