"""Attention to the Pareto-best or Pareto-worst subnets."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from nas.samplers.base import FixedRule, Step
from nas.samplers.macs_bins import MacsBins
from search_spaces import Arch, Genomes

BINS = 70
"""As AttentiveNAS cuts its space: 203 to 1,939 MMACs in steps of 25."""
CANDIDATES = 3
TRIES = 100


class Attentive(FixedRule):
    """The largest, `n_random` attentive subnets and the smallest (AttentiveNAS, Wang et al. 2021, §3).

    For each attentive subnet, a bin of MACs is drawn by how many subnets of the space lie in it; of 3 random
    subnets in this bin, the one whose loss on the batch is lowest (BestUp) or highest (WorstUp) is trained.

    Args:
        n_random: attentive subnets of a step.
        choose: which of the candidates' losses, `min` or `max`.
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
        """Some random genomes of one bin, the first that are found.

        The bin of a uniformly drawn genome is drawn by the share of the space that lies in it.
        """
        genomes = step.sample(1 + TRIES)
        bins = self.bins.of(step, genomes)
        nearest = np.argsort(np.abs(bins[1:] - bins[0]), kind="stable")[:CANDIDATES]
        return genomes[1 + nearest]
