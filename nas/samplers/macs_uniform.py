"""One random subnet a step, all sizes alike."""

from __future__ import annotations

from nas.samplers.base import FixedRule, Step
from nas.samplers.macs_bins import MacsBins
from search_spaces import Arch

BINS = 10


class MacsUniform(FixedRule):
    """One subnet from an interval of MACs that is drawn uniformly (SPOS, Guo et al. 2020, as released)."""

    def __init__(self) -> None:
        self.bins = MacsBins(BINS)

    def subnets(self, step: Step) -> list[Arch]:
        """See `Sampler`."""
        return step.decode(self.bins.draw(step, int(step.rng.integers(BINS)), 1))
