"""Neighbouring subnets in size: each step stays in one interval of MACs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nas.samplers.base import Step
from nas.samplers.macs_bins import MacsBins
from search_spaces import Arch, Genomes

BANKS = 8
SHARES = (0.0, 1 / 3, 2 / 3)
"""Of the way from the smallest to the largest option of every choice: where the minima lie."""

GOLDEN = (5**0.5 - 1) / 2
"""Its multiples are spread evenly over 0 to 1, however many there are."""


class ComplexityBanks:
    """`1 + n_random` subnets of one bank, an interval of MACs, and the nearest of several minima.

    Complexity-aware sampling with multiple minima (ElasticViT, Tang et al. 2023).

    Subnets of very different sizes pull the shared weights apart. The bank walks by at most one up or down
    from step to step, so that the subnets of neighbouring steps are alike as well. The banks, equally wide,
    and the minima are ours; the publication gives theirs in MACs of its own space.

    Args:
        n_random: subnets of the bank beside the first.
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
        """See `Sampler`; nothing is learned from losses."""

    def state_dict(self) -> dict[str, Any]:
        """See `Sampler`."""
        return {"bank": self.bank}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `Sampler`."""
        self.bank = state["bank"]


def between(step: Step, shares: tuple[float, ...]) -> Genomes:
    """Genomes at these shares of the way from the smallest to the largest option of every choice.

    A genome of a smaller share is nested in those of larger ones: no choice of it is larger. The choices grow
    one after another, in an order that mixes all parts of the network.

    Returns:
        shape (len(shares), n_genes).
    """
    last = step.space.n_options - 1
    head_start = np.arange(len(last)) * GOLDEN % 1
    return np.floor(np.outer(shares, last) + head_start).astype(np.int64)
