"""Genomes: architectures as rows of a matrix of integers."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence, Set
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from search_spaces.arch import Arch, Value
from search_spaces.choices import Choice
from search_spaces.errors import first_names

Genomes = NDArray[np.int64]
"""Integer matrix of shape (n, n_genes): one architecture per row, each gene the index of an option."""


class GenomeCodec:
    """Converts architectures to genomes and back.

    Args:
        name: name of the space, for error messages.
        choices: the choices of the space; those with several options are the genes, in this order.
    """

    def __init__(self, name: str, choices: Sequence[Choice]) -> None:
        self.name = name
        self.choices = {choice.name: choice for choice in choices}
        self.genes = tuple(choice for choice in choices if len(choice.options) > 1)
        self.n_options: NDArray[np.int64] = np.array([len(g.options) for g in self.genes], dtype=np.int64)
        self._column = {gene.name: i for i, gene in enumerate(self.genes)}

    def encode(self, archs: Collection[Arch]) -> Genomes:
        """Canonical genomes of `archs`, shape (n, n_genes).

        Raises:
            ValueError: an arch makes a choice that the space does not offer.
        """
        genomes = np.zeros((len(archs), len(self.genes)), dtype=np.int64)
        always_active = {name for name, choice in self.choices.items() if choice.depth is None}
        for row, arch in zip(genomes, archs, strict=True):
            # names before values, for clear messages about an arch of another space
            self._check_names(always_active - arch.keys(), arch.keys() - self.choices.keys())
            for name in filter(arch.__contains__, self.choices):
                options, value = self.choices[name].options, arch[name]
                if value not in options:
                    raise ValueError(
                        f"{name} must be one of {options} in the space {self.name!r}, got {value}"
                    )
                if name in self._column:
                    row[self._column[name]] = options.index(value)
            active = {name for name, choice in self.choices.items() if choice.is_active(arch)}
            self._check_names(active - arch.keys(), arch.keys() - active)
        return genomes

    def _check_names(self, missing: Set[str], surplus: Set[str]) -> None:
        """Check that an arch has exactly the choices that are active in it.

        Args:
            missing: active choices without a value.
            surplus: names in the arch that are not active choices.

        Raises:
            ValueError: lists these choices.
        """
        if missing or surplus:
            raise ValueError(
                f"an arch of the space {self.name!r} must have a value for each active choice and no other: "
                f"missing {first_names(sorted(missing), 5) or 'none'}, "
                f"unknown or switched off {first_names(sorted(surplus), 5) or 'none'}"
            )

    def arch(self, values: Mapping[str, Value]) -> Arch:
        """The arch with these values, without those of inactive choices.

        Args:
            values: values of at least all active choices.
        """
        return Arch({name: values[name] for name, choice in self.choices.items() if choice.is_active(values)})

    def decode(self, genomes: Genomes) -> list[Arch]:
        """The archs of `genomes`, raw or canonical, shape (n, n_genes).

        Raises:
            ValueError: the shape is wrong, or a gene is not the index of an option.
        """
        genomes = np.asarray(genomes)
        if genomes.ndim != 2 or genomes.shape[1] != len(self.genes):
            raise ValueError(f"genomes must have shape (n, {len(self.genes)}), got {genomes.shape}")
        if (genomes < 0).any() or (genomes >= self.n_options).any():
            raise ValueError(f"genes must be in 0..{self.n_options.max() - 1} and below n_options")
        return [self.arch(self._values_of_row(row)) for row in genomes.tolist()]

    def _values_of_row(self, row: Sequence[int]) -> dict[str, Value]:
        return {
            name: choice.options[row[self._column[name]] if name in self._column else 0]
            for name, choice in self.choices.items()
        }

    def canonical(self, genomes: Genomes) -> Genomes:
        """`genomes` with inactive genes set to 0, so that equal networks have equal rows."""
        result: Genomes = np.asarray(genomes, dtype=np.int64) * self.active(genomes)
        return result

    def active(self, genomes: Genomes) -> NDArray[np.bool_]:
        """Mask of the active genes, which no depth choice switches off; shape (n, n_genes)."""
        result: NDArray[np.bool_] = np.asarray(genomes)[:, self._depth_columns] >= self._first_active
        return result

    @cached_property
    def _depth_columns(self) -> NDArray[np.intp]:
        """For each gene, the column of the depth that can switch it off; 0 if there is none."""
        return np.array([self._column.get(gene.depth or "", 0) for gene in self.genes], dtype=np.intp)

    @cached_property
    def _first_active(self) -> NDArray[np.int64]:
        """For each gene, the first index of its depth at which it is active; shape (n_genes,)."""
        first = [
            sum(d <= gene.position for d in self.choices[gene.depth].options) if gene.depth else 0
            for gene in self.genes
        ]
        return np.array(first, dtype=np.int64)

    def sample(self, rng: np.random.Generator, n: int) -> Genomes:
        """`n` canonical genomes, each gene drawn uniformly from its options, shape (n, n_genes)."""
        return self.canonical(rng.integers(0, self.n_options, size=(n, len(self.genes))))

    def all_subnets(self) -> Genomes:
        """Canonical genomes of all subnets, shape (n_subnets, n_genes); only for small spaces."""
        if not self.genes:
            return np.zeros((1, 0), dtype=np.int64)
        raw = np.array(list(itertools.product(*map(range, self.n_options))), dtype=np.int64)
        return np.unique(self.canonical(raw), axis=0)

    @cached_property
    def smallest(self) -> Arch:
        """The arch with the smallest option of every choice."""
        return self.decode(np.zeros((1, len(self.genes)), dtype=np.int64))[0]

    @cached_property
    def largest(self) -> Arch:
        """The arch with the largest option of every choice."""
        return self.decode(self.n_options[None] - 1)[0]

    @cached_property
    def n_subnets(self) -> int:
        """Number of distinct subnets (equal networks counted once), resolutions included."""
        gated: dict[str, list[Choice]] = defaultdict(list)
        for choice in self.choices.values():
            if choice.depth is not None:
                gated[choice.depth].append(choice)
        total = 1
        for choice in self.choices.values():
            if choice.depth is None:
                total *= sum(
                    math.prod(len(c.options) for c in gated[choice.name] if value > c.position)
                    for value in choice.options
                )
        return total

    def columns(self, names: Sequence[str]) -> list[int]:
        """Columns of the genes among `names`, each once; choices with one option have no column."""
        return [self._column[name] for name in dict.fromkeys(names) if name in self._column]
