"""NSGA-II over genomes (Deb et al. 2002), as implemented by pymoo, with operators for discrete genes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.algorithms.moo.nsga3 import NSGA3
from pymoo.core.duplicate import DuplicateElimination
from pymoo.core.problem import Problem as PymooProblem
from pymoo.core.termination import NoTermination
from pymoo.util.ref_dirs import get_reference_directions

from nas.search.algorithms.mating import Mating
from nas.search.problem.hypervolume import nondominated
from search_spaces import Genomes, Space

Matrix = NDArray[np.float64]
Score = Callable[[Genomes], tuple[Matrix, Matrix]]
"""Minimised objectives (n, m) and violations (n, c), ≤ 0 where satisfied, of genomes (n, n_genes)."""


class Evolution:
    """NSGA-II with an ask-and-tell interface; NSGA-III (Deb and Jain 2014) for more than two objectives.

    The population holds raw genomes, so that the genes of blocks beyond the chosen depth survive crossover.
    The canonical form is used only to find duplicates.

    Args:
        space: the space of the genomes.
        start: genomes of the first population, shape (any, n_genes); random genomes fill it up.
        n_objectives: number of objectives.
        n_constraints: number of constraints.
        rng: random number generator.
        population: subnets per generation.
    """

    def __init__(
        self,
        space: Space,
        start: Genomes,
        n_objectives: int,
        n_constraints: int,
        rng: np.random.Generator,
        population: int = 100,
    ) -> None:
        fill = rng.integers(0, space.n_options, size=(max(0, population - len(start)), len(space.genes)))
        operators = {
            "pop_size": population,
            "sampling": np.concatenate([start[:population], fill]),
            "mating": Mating(space),
            "eliminate_duplicates": _SameSubnet(space),
        }
        if n_objectives > 2:  # crowding distance is a poor measure of diversity there
            self._algorithm = NSGA3(reference_directions(n_objectives, population), **operators)
        else:
            self._algorithm = NSGA2(**operators)
        self._problem = PymooProblem(
            n_var=len(space.genes),
            n_obj=n_objectives,
            n_ieq_constr=n_constraints,
            xl=np.zeros(len(space.genes), dtype=np.int64),
            xu=space.n_options - 1,
        )
        self._algorithm.setup(
            self._problem, termination=NoTermination(), seed=int(rng.integers(2**31)), verbose=False
        )

    def ask(self) -> Genomes:
        """The next generation, raw, shape (≤ population, n_genes); no rows when nothing new is left."""
        self._asked = self._algorithm.ask()
        if self._asked is None or len(self._asked) == 0:
            return np.zeros((0, self._problem.n_var), dtype=np.int64)
        genomes: Genomes = self._asked.get("X").astype(np.int64)
        return genomes

    def tell(self, minimised: Matrix, violations: Matrix) -> None:
        """Record the objectives and violations of the genomes that `ask` returned last, in the same order."""
        self._asked.set(F=minimised, G=violations)
        self._algorithm.tell(infills=self._asked)

    @property
    def population(self) -> Genomes:
        """The raw genomes that survived, shape (≤ population, n_genes)."""
        genomes: Genomes = self._algorithm.pop.get("X").astype(np.int64)
        return genomes


def reference_directions(n_objectives: int, n: int) -> Matrix:
    """Evenly spaced directions (Das and Dennis 1998), as many as possible up to `n`, shape (≤ n, m)."""
    partitions = 1
    while math.comb(partitions + n_objectives, n_objectives - 1) <= n:
        partitions += 1
    directions: Matrix = get_reference_directions("das-dennis", n_objectives, n_partitions=partitions)
    return directions


class Evolved(NamedTuple):
    """The result of `evolve`."""

    genomes: Genomes
    """Canonical genomes of the non-dominated set of everything that was scored."""
    minimised: Matrix
    violation: float
    """0 if a subnet satisfied the constraints. Otherwise the sum of the violations of the closest subnet,
    which is then the only one in `genomes`."""
    population: Genomes
    """The last population, raw, from which another run may start."""


def evolve(
    space: Space,
    score: Score,
    start: Genomes,
    rng: np.random.Generator,
    evaluations: int,
    population: int = 100,
) -> Evolved:
    """Minimise a cheap `score` by NSGA-II, with about `evaluations` subnets scored in all."""
    minimised, violations = score(space.encode([space.smallest]))
    evolution = Evolution(space, start, minimised.shape[1], violations.shape[1], rng, population)
    scored: list[tuple[Genomes, Matrix, Matrix]] = []
    while sum(len(genomes) for genomes, _, _ in scored) < evaluations:
        genomes = evolution.ask()
        if len(genomes) == 0:
            break
        minimised, violations = score(genomes)
        evolution.tell(minimised, violations)
        scored.append((genomes, minimised, np.maximum(violations, 0).sum(axis=1)))
    genomes, minimised, violation = (np.concatenate(column) for column in zip(*scored, strict=True))
    kept = np.flatnonzero(violation <= 0)
    kept = kept[nondominated(minimised[kept])] if len(kept) else np.array([violation.argmin()])
    return Evolved(
        space.canonical(genomes[kept]), minimised[kept], float(violation[kept].max()), evolution.population
    )


class _SameSubnet(DuplicateElimination):  # type: ignore[misc]  # pymoo is untyped
    """Marks genomes with equal canonical forms as duplicates."""

    def __init__(self, space: Space) -> None:
        super().__init__()
        self._space = space

    def _do(self, population: Any, other: Any, is_duplicate: NDArray[np.bool_]) -> NDArray[np.bool_]:
        seen = set() if other is None else set(self._names(other))
        for i, name in enumerate(self._names(population)):
            is_duplicate[i] = name in seen
            seen.add(name)
        return is_duplicate

    def _names(self, population: Any) -> list[bytes]:
        return [row.tobytes() for row in self._space.canonical(population.get("X"))]
