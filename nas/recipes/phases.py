"""Phases of progressive shrinking, each with its own open choices and learning rate."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from nas.recipes.keys import Group
from nas.recipes.values import Count, NotNegative, Positive


class Phase(Group):
    """One phase of progressive shrinking."""

    epochs: Positive
    """Length of the phase; all phases are scaled together to fill the recipe's `epochs`."""
    elastic: dict[str, Count] = Field(default_factory=dict)
    """Number of open options per kind of choice (`kernel`, `depth`, `expand`, `width`, …), counted from the
    largest. Kinds that are not listed use their largest option."""
    subnets: Count = 1
    """Random subnets per step."""
    lr_scale: Positive = 1.0
    """Factor on the peak learning rate."""
    warmup_epochs: NotNegative = 0.0
    """Length of the linear warm-up at the start of the phase."""


def phase_at(phases: Sequence[Phase], progress: float) -> tuple[int, float]:
    """The index of the current phase, and the completed share of that phase.

    Args:
        phases: at least one.
        progress: completed share of the whole training, 0 to 1.
    """
    epoch = progress * sum(phase.epochs for phase in phases)
    for index, phase in enumerate(phases):
        if epoch < phase.epochs or index == len(phases) - 1:
            break
        epoch -= phase.epochs
    return index, epoch / phase.epochs
