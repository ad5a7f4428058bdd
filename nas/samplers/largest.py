"""The largest subnet alone: how a teacher is trained."""

from __future__ import annotations

from nas.samplers.base import FixedRule, Step
from search_spaces import Arch


class Largest(FixedRule):
    """The largest subnet and no other, as before progressive shrinking (OFA, Cai et al. 2020, §3.3)."""

    def subnets(self, step: Step) -> list[Arch]:
        """See `Sampler`."""
        return [step.largest]
