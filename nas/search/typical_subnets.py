"""A few subnets that represent all subnets that a search evaluates."""

from __future__ import annotations

import numpy as np

from nas.search.algorithms.base import size_stratified_sample
from nas.search.problem.problem import Problem
from search_spaces import Arch, Genomes
from search_spaces.costs import macs_table

SUBNETS = 16
"""Subnets that are timed together. As in the larger groups of a search, each image is decoded once for
all."""


def typical_subnets(problem: Problem, seed: int) -> list[Arch]:
    """A few subnets whose mean MACs are close to the expected mean over a search.

    A search begins with subnets of all sizes. Later subnets are expected to be like random subnets that
    satisfy the limits on costs.
    """
    rng, space = np.random.default_rng(seed), problem.space
    random = _within_limits(problem, space.sample(rng, 60 * SUBNETS))
    start = space.canonical(size_stratified_sample(space, rng, len(random) // 2))
    expected = np.concatenate([start, random])
    macs = macs_table(space)(expected).astype(np.float64)
    draws = rng.integers(0, len(expected), size=(200, SUBNETS))
    nearest = np.abs(macs[draws].mean(axis=1) - macs.mean()).argmin()
    return list(dict.fromkeys(space.decode(expected[draws[nearest]])))


def _within_limits(problem: Problem, genomes: Genomes) -> Genomes:
    """The genomes that satisfy the limits on costs, or if these are fewer than `SUBNETS`, those with the
    smallest excess."""
    limits = [limit for limit in problem.constraints if not limit.objective.metrics]
    if not limits:
        return genomes
    excess = Problem(problem.space, [limit.objective for limit in limits], limits).excess(genomes, {})
    order = np.argsort(excess, kind="stable")
    return genomes[order[: max(SUBNETS, int((excess == 0).sum()))]]
