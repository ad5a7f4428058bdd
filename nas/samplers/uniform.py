"""One random subnet per step."""

from __future__ import annotations

from nas.samplers.base import FixedRule, Step
from search_spaces import Arch


class Uniform(FixedRule):
    """One subnet, each choice drawn uniformly (single path one-shot, SPOS, Guo et al. 2020, §3.3)."""

    def subnets(self, step: Step) -> list[Arch]:
        """See `Sampler`."""
        return step.decode(step.sample(1))
