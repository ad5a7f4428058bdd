"""Which subnets a training step computes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

import numpy as np

from nas.plugins import check, resolve
from nas.recipe import Recipe
from search_spaces import Arch, Space


@runtime_checkable
class Sampler(Protocol):
    """Chooses the subnets of each training step.

    All processes of a run ask with equal random generators and train the same subnets.
    """

    def subnets(self, rng: np.random.Generator, resolution: int) -> Sequence[Arch]:
        """The subnets of a step whose images have this resolution.

        The first learns from the labels; the others learn from its outputs (in-place distillation).
        """

    def observe(self, subnets: Sequence[Arch], losses: Sequence[float]) -> None:
        """Hear the losses of the step's subnets, in the order of `subnets`."""

    def state_dict(self) -> dict[str, Any]:
        """What was learned from the losses, as plain values and tensors for a checkpoint."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to what `state_dict` gave, where training resumes."""


class Sandwich:
    """The largest, the smallest and `n_random` random subnets (sandwich rule; Yu and Huang 2019, §3.2)."""

    def __init__(self, space: Space, n_random: int) -> None:
        self.space = space
        self.n_random = n_random

    def subnets(self, rng: np.random.Generator, resolution: int) -> list[Arch]:
        """See `Sampler.subnets`."""
        archs = [self.space.largest, self.space.smallest]
        archs += self.space.decode(self.space.sample(rng, self.n_random))
        return [replace(arch, resolution=resolution) for arch in archs]

    def observe(self, subnets: Sequence[Arch], losses: Sequence[float]) -> None:
        """Learn nothing: the rule is fixed."""

    def state_dict(self) -> dict[str, Any]:
        """Nothing, see `observe`."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `state_dict`."""


SamplerFactory = Callable[[Space, Recipe], Sampler]
"""What a user's `module:object` must be."""

SAMPLERS: Mapping[str, SamplerFactory] = {
    "sandwich": lambda space, recipe: Sandwich(space, recipe.n_random),
}


def make_sampler(space: Space, recipe: Recipe) -> Sampler:
    """The sampler that the recipe names.

    Raises:
        ValueError: unknown name, or a user's object that makes no `Sampler`.
    """
    sampler = resolve("sampler", recipe.sampler, SAMPLERS)(space, recipe)
    check("sampler", recipe.sampler, sampler, Sampler)
    return sampler
