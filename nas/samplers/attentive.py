"""Attentive sampling of the Pareto-best or Pareto-worst subnets."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from nas.samplers.base import FixedRule, Step
from nas.samplers.macs_bins import MacsBins
from search_spaces import Arch, Genomes

BINS = 70
"""Number of bins, as in AttentiveNAS, whose space has 203 to 1,939 million MACs in steps of 25 million."""
CANDIDATES = 3
TRIES = 100


class Attentive(FixedRule):
    """The largest subnet, `n_random` attentive ones and the smallest (AttentiveNAS, Wang et al. 2021, §3).

    For each attentive subnet, a bin of MACs is drawn with a probability proportional to the number of subnets
    in it. Of 3 random subnets of this bin, the one with the lowest (BestUp) or highest (WorstUp) loss on the
    batch is trained.

    Args:
        n_random: number of attentive subnets per step.
        choose: selects one of the candidates' losses: `min` or `max`.
    """

    def __init__(self, n_random: int, choose: Callable[[Sequence[float]], float]) -> None:
        self.n_random = n_random
        self.choose = choose
        self.bins = MacsBins(BINS)

    def subnets(self, step: Step) -> list[Arch]:
        """See `Sampler`."""
        return [step.largest, *(self._attentive(step) for _ in range(self.n_random)), step.smallest]

    def _attentive(self, step: Step) -> Arch:
        candidates = step.decode(self._candidates(step))
        losses = step.evaluate_losses(candidates)
        return candidates[losses.index(self.choose(losses))]

    def _candidates(self, step: Step) -> Genomes:
        """Random genomes from the bin of another random genome, shape (CANDIDATES, n_genes).

        If too few genomes are in the bin, the nearest bins are used. Because the other genome is drawn
        uniformly, the probability of a bin is proportional to its number of subnets.
        """
        genomes = step.sample(1 + TRIES)
        bins = self.bins.of(step, genomes)
        nearest = np.argsort(np.abs(bins[1:] - bins[0]), kind="stable")[:CANDIDATES]
        return genomes[1 + nearest]
