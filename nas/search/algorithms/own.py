"""A user's own search algorithm, checked at each call."""

from __future__ import annotations

import numpy as np

from nas.plugins import check
from nas.search.algorithms.base import Optimizer, OptimizerFactory, SearchTask
from nas.search.algorithms.history import Deduplicator
from nas.search.problem.objectives import Metrics
from search_spaces import Genomes
from search_spaces.checked import errors_of


class OwnOptimizer:
    """Wraps a user's algorithm and checks that it keeps the rules of `Optimizer`.

    Args:
        name: the algorithm as `module:object`.
        factory: makes the algorithm.
        task: the argument of the factory.

    Raises:
        ValueError: the factory fails or does not return an `Optimizer`.
    """

    def __init__(self, name: str, factory: OptimizerFactory, task: SearchTask) -> None:
        self._source, self._space = f"the search algorithm {name!r}", task.problem.space
        self._seen = Deduplicator(self._space)
        with errors_of(self._source):
            self._optimizer = factory(task)
        check("search algorithm", name, self._optimizer, Optimizer)

    def ask(self, n: int) -> Genomes:
        """See `Optimizer`.

        Raises:
            ValueError: the algorithm fails, or returns anything but genomes, more than `n`, or a known
                subnet.
        """
        with errors_of(self._source):
            given: object = self._optimizer.ask(n)
            rows = np.asarray(given)
        options = self._space.n_options
        if rows.ndim != 2 or len(rows) > n or rows.shape[1] != len(options) or rows.dtype.kind not in "iu":
            raise ValueError(
                f"{self._source} must return integers of shape (at most {n}, {len(options)}), got "
                f"{type(given).__name__} of shape {rows.shape} and type {rows.dtype}"
            )
        if ((rows < 0) | (rows >= options)).any():
            row = rows[((rows < 0) | (rows >= options)).any(axis=1)][0]
            raise ValueError(
                f"{self._source} must return genes from 0 to {(options - 1).tolist()}, got {row.tolist()}"
            )
        genomes = self._space.canonical(rows.astype(np.int64))
        for row in genomes:
            if len(self._seen.take(row[None])) == 0:
                again = self._space.decode(row[None])[0].id
                raise ValueError(f"{self._source} must not return a subnet twice, got {again} again")
        return genomes

    def tell(self, genomes: Genomes, metrics: Metrics) -> None:
        """See `Optimizer`.

        Raises:
            ValueError: the algorithm fails.
        """
        self._seen.take(genomes)
        with errors_of(self._source):
            self._optimizer.tell(genomes, metrics)
