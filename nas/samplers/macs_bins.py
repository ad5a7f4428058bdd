"""Intervals of MACs, and random subnets in them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nas.samplers.base import Step
from search_spaces import Genomes
from search_spaces.costs import macs_table

TRIES = 500
"""Number of random subnets of which those in a bin are used; the maximum in SPOS."""


class MacsBins:
    """`n` intervals of equal width between the MACs of the smallest and the largest subnet of a step.

    Most uniformly drawn subnets are in the middle bins, and the outer bins would be empty. Therefore each
    subnet is drawn with a random size between 0 and 1: the index of each option has a binomial distribution
    with the size as its probability.

    Args:
        n: number of bins.
    """

    def __init__(self, n: int) -> None:
        self.n = n

    def of(self, step: Step, genomes: Genomes) -> NDArray[np.int64]:
        """Index of the bin of each genome, in ascending order of MACs; shape (len(genomes),)."""
        table = macs_table(step.space)
        ends = step.space.encode([step.smallest, step.largest])
        low, high = table(ends)
        share = (table(genomes) - low) / max(high - low, 1)
        bins: NDArray[np.int64] = np.clip((share * self.n).astype(np.int64), 0, self.n - 1)
        return bins

    def draw(self, step: Step, index: int, n: int) -> Genomes:
        """Draw `n` genomes from bin `index`, or from the nearest bins if too few of `TRIES` are in it.

        Returns:
            shape (n, n_genes).
        """
        genomes = spread(step, max(TRIES, n))
        distance = np.abs(self.of(step, genomes) - index)
        return genomes[np.argsort(distance, kind="stable")[:n]]


def spread(step: Step, n: int) -> Genomes:
    """Draw `n` genomes with sizes from the smallest to the largest subnet, shape (n, n_genes)."""
    last = step.space.n_options - 1
    size = step.rng.random((n, 1))
    return step.fit(step.rng.binomial(last, size, size=(n, len(last))))
