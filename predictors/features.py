"""Features of architectures for predictors, computed from genomes of any family of spaces."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from search_spaces import Block, BlockTable, Genomes, Space
from search_spaces.operators import Add

Matrix = NDArray[np.float32]

STATISTICS: dict[str, Callable[[Block], float]] = {
    "macs": lambda block: block.macs,
    "params": lambda block: block.params,
    "channels": lambda block: np.log1p(max(node.output.channels for node in block.nodes)),
    "shortcut": lambda block: block.has(Add),
    "depth": lambda block: 1,
}
"""Statistics of a block. Whether it has a shortcut may depend on the choice of a width."""
SIZES = ("macs", "params")
"""Statistics that are summed over stages; the others have a column for each slot."""


class Features:
    """Converts genomes (n, n_genes) to a matrix of features (n, n_features).

    The columns are in named groups of equal scale and meaning, so that a predictor can have weights of groups
    instead of columns:
    - `ordinal.KIND` for each kind of gene (`kernel`, `expand`...): the position of the option among all
      options, 0 for inactive blocks;
    - `sum.KIND` and `total.KIND`: sums of the ordinals over each stage and over the network, unless they have
      only one;
    - `one_hot`: one column per option of each gene, all 0 for inactive blocks;
    - `slot.STATISTIC`: statistic of the block in each slot, 0 for an empty slot;
    - `stage.STATISTIC`: sum of a statistic over each stage;
    - `total`: MACs and parameters of the network.
    MACs and parameters are logarithms, because accuracy depends on their ratios. Single precision is
    sufficient for all predictors and takes half the time.

    Args:
        space: space of the genomes.
    """

    def __init__(self, space: Space) -> None:
        self.space = space
        kinds = np.array([gene.kind for gene in space.genes])
        parts = np.array([gene.part for gene in space.genes])
        self._columns = {kind: np.flatnonzero(kinds == kind) for kind in dict.fromkeys(kinds.tolist())}
        self._sums = _sums(self._columns, parts)
        self._gene = np.repeat(np.arange(len(space.genes)), space.n_options)
        self._option = np.concatenate([np.arange(1, n + 1) for n in space.n_options]).astype(np.int16)
        self._table = BlockTable(space, lambda block: [value(block) for value in STATISTICS.values()])
        self._stages = _membership(np.array([slot.part for slot in space.slots]))
        order = np.concatenate(list(self._columns.values()))
        ordinal_parts = parts[order]
        self.parts = tuple(
            tuple(np.flatnonzero(ordinal_parts == part).tolist()) for part in dict.fromkeys(parts)
        )
        """Ordinal columns of each part of the network (stem, stages, head) that has genes."""
        blocks = [(gene.stage, gene.block) for gene in space.genes]
        members = [
            [column for column, gene in enumerate(order) if blocks[gene] == block]
            for block in dict.fromkeys(blocks)
            if block[1] is not None
        ]
        self.neighbours = tuple((*a, *b) for a, b in itertools.pairwise(members))
        """Ordinal columns of each pair of consecutive blocks."""
        groups = self._blocks(space.encode([space.smallest]))
        ends = np.cumsum([group.shape[1] for group in groups.values()]).tolist()
        self.groups = {
            name: slice(end - group.shape[1], end)
            for (name, group), end in zip(groups.items(), ends, strict=True)
        }
        self.n_features: int = ends[-1]

    def __call__(self, genomes: Genomes) -> Matrix:
        """Features of `genomes` (n, n_genes), canonical or not; shape (n, n_features)."""
        matrix = np.empty((len(genomes), self.n_features), dtype=np.float32)
        for name, block in self._blocks(genomes).items():
            matrix[:, self.groups[name]] = block
        return matrix

    def _blocks(self, genomes: Genomes) -> dict[str, NDArray[np.generic]]:
        option = ((np.asarray(genomes) + 1) * self.space.active(genomes)).astype(np.int16)  # 0: inactive
        ordinal = option / self.space.n_options.astype(np.float32)
        slots = dict(zip(STATISTICS, self._table.per_slot(genomes), strict=True))
        sizes = {name: slots.pop(name) @ self._stages for name in SIZES}
        total = np.stack([stages.sum(axis=1) for stages in sizes.values()], axis=1)
        return {
            **{f"ordinal.{kind}": ordinal[:, columns] for kind, columns in self._columns.items()},
            **{name: ordinal @ matrix for name, matrix in self._sums.items()},
            "one_hot": option[:, self._gene] == self._option,
            **{f"slot.{name}": values for name, values in slots.items()},
            **{f"stage.{name}": np.log1p(stages) for name, stages in sizes.items()},
            "total": np.log1p(total),
        }


def _membership(parts: NDArray[np.str_]) -> Matrix:
    """Indicator matrix of the part of each member, shape (n_members, n_parts)."""
    return np.stack([parts == part for part in dict.fromkeys(parts.tolist())], axis=1).astype(np.float32)


def _sums(columns: Mapping[str, NDArray[np.intp]], parts: NDArray[np.str_]) -> dict[str, Matrix]:
    """Matrices (n_genes, n_sums) that sum the genes of a kind over parts and over the network, by group."""
    sums = {}
    for kind, genes in columns.items():
        members = np.zeros((len(parts), len(set(parts[genes]))), dtype=np.float32)
        members[genes] = _membership(parts[genes])
        if members.shape[1] < len(genes):  # otherwise each sum has one gene
            sums[f"sum.{kind}"] = members
        if len(genes) > 1:
            sums[f"total.{kind}"] = members.sum(axis=1, keepdims=True)
    return sums
