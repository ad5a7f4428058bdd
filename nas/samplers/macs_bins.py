"""Intervals of MACs, and random subnets that lie in them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nas.samplers.base import Step
from search_spaces import Genomes
from search_spaces.costs import macs_table

TRIES = 500
"""Random subnets from which those of a bin are taken, as many as SPOS draws at most."""


class MacsBins:
    """`n` intervals of equal width from the smallest subnet's MACs to the largest's, at a step's resolution.

    Uniformly drawn subnets crowd in the middle: outer bins would stay empty. So each is drawn with a size of
    its own, the chance by which its choices lean to the large side.

    Args:
        n: number of bins.
    """

    def __init__(self, n: int) -> None:
        self.n = n

    def of(self, step: Step, genomes: Genomes) -> NDArray[np.int64]:
        """The bin of each genome, 0 the smallest; shape (len(genomes),)."""
        table = macs_table(step.space)
        ends = step.space.encode([step.smallest, step.largest])
        low, high = table(ends)
        share = (table(genomes) - low) / max(high - low, 1)
        bins: NDArray[np.int64] = np.clip((share * self.n).astype(np.int64), 0, self.n - 1)
        return bins

    def draw(self, step: Step, index: int, n: int) -> Genomes:
        """`n` genomes from bin `index`, of the nearest bins where too few of `TRIES` lie in it.

        Returns:
            shape (n, n_genes).
        """
        genomes = spread(step, max(TRIES, n))
        distance = np.abs(self.of(step, genomes) - index)
        return genomes[np.argsort(distance, kind="stable")[:n]]


def spread(step: Step, n: int) -> Genomes:
    """`n` genomes whose sizes are spread from the smallest to the largest, shape (n, n_genes)."""
    last = step.space.n_options - 1
    size = step.rng.random((n, 1))
    return step.fit(step.rng.binomial(last, size, size=(n, len(last))))
