"""Pareto local search (Paquete, Chiarandini and Stützle 2004).

Each pass scores the neighbours of the current front and adds the non-dominated ones to the front. A neighbour
has another option of one gene. NSGA-II keeps at most one population; local search keeps the whole front.
"""

from __future__ import annotations

import numpy as np

from nas.search.algorithms.evolution import Evolved, Score
from nas.search.problem.hypervolume import nondominated
from search_spaces import Genomes, Space

EXPANDED = 100
"""Largest number of subnets of the front whose neighbours one pass scores."""


def improve(space: Space, score: Score, found: Evolved, rng: np.random.Generator, passes: int) -> Genomes:
    """The canonical front after some passes of local search; unchanged if no subnet satisfies the limits.

    Args:
        space: the space of the genomes.
        score: the function to minimise.
        found: the front to start from.
        rng: chooses the subnets of a pass.
        passes: largest number of passes; there are fewer if the neighbours of all subnets are known earlier.
    """
    front, minimised = found.genomes, found.minimised
    if found.violation > 0:
        return front
    expanded: set[bytes] = set()
    for _ in range(passes):
        fresh = [row for row in front[rng.permutation(len(front))] if row.tobytes() not in expanded]
        if not fresh:
            break
        expanded.update(row.tobytes() for row in fresh[:EXPANDED])
        candidates = np.unique(np.concatenate([neighbours(space, row) for row in fresh[:EXPANDED]]), axis=0)
        scores, violations = score(candidates)
        keep = (violations <= 0).all(axis=1)
        front = np.concatenate([front, candidates[keep]])
        minimised = np.concatenate([minimised, scores[keep]])
        best = nondominated(minimised)
        front, minimised = front[best], minimised[best]
    return front


def neighbours(space: Space, genome: Genomes) -> Genomes:
    """Canonical genomes that have another option in one gene, shape (at most sum of n_options, n_genes)."""
    columns = np.repeat(np.arange(len(genome)), space.n_options)
    options = np.concatenate([np.arange(n) for n in space.n_options])
    rows = np.tile(genome, (len(columns), 1))
    rows[np.arange(len(columns)), columns] = options
    return space.canonical(rows[options != genome[columns]])
