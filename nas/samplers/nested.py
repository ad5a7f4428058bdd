"""A fixed list of nested subnets."""

from __future__ import annotations

from nas.samplers.base import FixedRule, Step
from nas.samplers.complexity_banks import between
from search_spaces import Arch

SUBNETS = 16
SHARES = tuple(i / (SUBNETS - 1) for i in range(SUBNETS))


class Nested(FixedRule):
    """`1 + n_random` of 16 subnets, each nested in the next one (SortedNet, Valipour et al. 2023).

    The subnets are evenly spaced between the smallest and the largest one, and nested in every choice. The
    subnets of a step are drawn uniformly.

    Args:
        n_random: number of subnets per step in addition to the first one; their gradients are summed.
    """

    def __init__(self, n_random: int) -> None:
        self.n = min(1 + n_random, SUBNETS)

    def subnets(self, step: Step) -> list[Arch]:
        """See `Sampler`."""
        drawn = step.rng.choice(SUBNETS, self.n, replace=False)
        return step.decode(between(step, SHARES)[drawn])
