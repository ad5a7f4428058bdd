"""Phases of a training, each with choices of its own that are open and a learning rate of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import BaseModel, Field

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
LARGEST = 2**31 - 1
"""Of counts, which become sizes of arrays and numbers of processes."""
Count = Annotated[int, Field(ge=1, le=LARGEST)]


class Phase(BaseModel, frozen=True, extra="forbid"):
    """One phase of progressive shrinking."""

    epochs: Positive
    """Length; the phases together are stretched to fill the recipe's `epochs`."""
    elastic: dict[str, Count] = {}
    """How many options of each kind of choice (`kernel`, `depth`, `expand`, `width`, …) are open, counted
    from the largest; of kinds that are not listed, the largest alone."""
    subnets: Count = 1
    """Random subnets a step."""
    lr: Positive = 1.0
    """Peak learning rate, as a share of the recipe's `lr`."""
    warmup_epochs: NotNegative = 0.0
    """Of this phase, as in the recipe."""


def phase_at(phases: Sequence[Phase], progress: float) -> tuple[int, float]:
    """The phase in which a training is, and the share of the phase that is done.

    Args:
        phases: one at least.
        progress: share of the whole training that is done, 0 to 1.
    """
    epoch = progress * sum(phase.epochs for phase in phases)
    for index, phase in enumerate(phases):
        if epoch < phase.epochs or index == len(phases) - 1:
            break
        epoch -= phase.epochs
    return index, epoch / phase.epochs
