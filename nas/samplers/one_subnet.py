"""Training of a single subnet."""

from __future__ import annotations

from nas.samplers.base import FixedRule, Step
from search_spaces import Arch


class OneSubnet(FixedRule):
    """The same subnet in every step, for fine-tuning.

    Args:
        arch: the subnet.
    """

    def __init__(self, arch: Arch) -> None:
        self.arch = arch

    def subnets(self, step: Step) -> list[Arch]:
        """See `Sampler`."""
        return [self.arch]
