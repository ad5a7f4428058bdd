"""Complexity-aware sampling: the subnets of a step are from one interval of MACs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nas.samplers.base import Step
from nas.samplers.macs_bins import MacsBins
from search_spaces import Arch, Genomes

BANKS = 8
SHARES = (0.0, 1 / 3, 2 / 3)
"""Positions of the minima between the smallest option (0) and the largest option (1) of every choice."""

GOLDEN = (5**0.5 - 1) / 2
"""The golden ratio: its first n multiples modulo 1 are evenly distributed for every n."""


class ComplexityBanks:
    """Complexity-aware sampling with multiple minima (ElasticViT, Tang et al. 2023).

    A bank is an interval of MACs. Each step trains `1 + n_random` subnets of one bank, and the nearest of
    several minima, which are fixed small subnets. The gradients of subnets of very different sizes conflict.
    Therefore the index of the bank changes by at most one per step, so that the subnets of consecutive steps
    have similar sizes too. Here the banks have equal widths and the minima are at fixed positions (`SHARES`);
    the publication gives both in MACs of its own space.

    Args:
        n_random: number of subnets of the bank in addition to the first one.
    """

    def __init__(self, n_random: int) -> None:
        self.bins = MacsBins(BANKS)
        self.n = 1 + n_random
        self.bank = BANKS // 2

    def subnets(self, step: Step) -> list[Arch]:
        """See `Sampler`."""
        self.bank = int(np.clip(self.bank + step.rng.integers(-1, 2), 0, BANKS - 1))
        return step.decode(np.concatenate([self.members(step), self._nearest_minimum(step)]))

    def members(self, step: Step) -> Genomes:
        """The step's subnets of the bank, shape (n, n_genes)."""
        return self.bins.draw(step, self.bank, self.n)

    def _nearest_minimum(self, step: Step) -> Genomes:
        minima = step.fit(between(step, SHARES))
        return minima[[np.abs(self.bins.of(step, minima) - self.bank).argmin()]]

    def observe(self, step: Step, subnets: Sequence[Arch], losses: Sequence[float]) -> None:
        """See `Sampler`; the losses are not used."""

    def state_dict(self) -> dict[str, Any]:
        """See `Sampler`."""
        return {"bank": self.bank}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `Sampler`."""
        self.bank = state["bank"]


def between(step: Step, shares: tuple[float, ...]) -> Genomes:
    """Genomes at the given positions between the smallest (0) and the largest option (1) of every choice.

    Each genome is nested in the genomes of larger shares: none of its choices is larger. As the share grows,
    the choices increase one after another, in an order that mixes all parts of the network.

    Returns:
        shape (len(shares), n_genes).
    """
    last = step.space.n_options - 1
    head_start = np.arange(len(last)) * GOLDEN % 1
    return np.floor(np.outer(shares, last) + head_start).astype(np.int64)
