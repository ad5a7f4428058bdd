"""One random subnet per step, with uniformly distributed MACs."""

from __future__ import annotations

from nas.samplers.base import FixedRule, Step
from nas.samplers.macs_bins import MacsBins
from search_spaces import Arch

BINS = 10


class MacsUniform(FixedRule):
    """One subnet from a uniformly drawn interval of MACs (the released code of SPOS, Guo et al. 2020)."""

    def __init__(self) -> None:
        self.bins = MacsBins(BINS)

    def subnets(self, step: Step) -> list[Arch]:
        """See `Sampler`."""
        return step.decode(self.bins.draw(step, int(step.rng.integers(BINS)), 1))
