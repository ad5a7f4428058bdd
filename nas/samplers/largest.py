"""Training of the largest subnet only, for example as a teacher."""

from __future__ import annotations

from nas.samplers.base import FixedRule, Step
from search_spaces import Arch


class Largest(FixedRule):
    """Only the largest subnet, as before progressive shrinking (OFA, Cai et al. 2020, §3.3)."""

    def subnets(self, step: Step) -> list[Arch]:
        """See `Sampler`."""
        return [step.largest]
