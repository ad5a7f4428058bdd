"""The sandwich rule."""

from __future__ import annotations

from nas.samplers.base import FixedRule, Step
from search_spaces import Arch


class Sandwich(FixedRule):
    """The largest, the smallest and `n_random` random subnets (Yu and Huang 2019, §3.2).

    Args:
        n_random: number of random subnets.
    """

    def __init__(self, n_random: int) -> None:
        self.n_random = n_random

    def subnets(self, step: Step) -> list[Arch]:
        """See `Sampler`."""
        return [step.largest, step.smallest, *step.decode(step.sample(self.n_random))]
