"""A list of subnets that the user gives."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nas.samplers.base import FixedRule, Step
from search_spaces import Arch, Space

_KINDS = ("width", "depth")


class Listed(FixedRule):
    """`1 + n_random` of the subnets of a list, as PreNAS trains its candidates (Wang et al. 2023).

    Subnets of equal widths and depths form a group. All groups have the same probability, and so have all
    subnets of a group.

    Args:
        n_random: number of subnets per step in addition to the first one; PreNAS trains one per step.
        archs: the list.
    """

    def __init__(self, n_random: int, archs: Sequence[Arch]) -> None:
        self.archs = list(dict.fromkeys(archs))
        self.n = min(1 + n_random, len(self.archs))

    def subnets(self, step: Step) -> list[Arch]:
        """See `Sampler`."""
        drawn = step.rng.choice(len(self.archs), self.n, replace=False, p=self.shares(step.space))
        return step.decode(step.space.encode([self.archs[i] for i in drawn]))

    def shares(self, space: Space) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        """The probability of each subnet to be the first one of a step."""
        names = [choice.name for choice in space.choices.values() if choice.kind in _KINDS]
        groups = [tuple(arch.get(name) for name in names) for arch in self.archs]
        return np.array([1 / groups.count(group) for group in groups]) / len(set(groups))
