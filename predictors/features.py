"""What a predictor sees of an architecture: numbers read from genomes, for any family of spaces."""

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
"""Numbers of one block. `shortcut` matters where a width choice decides whether the block has one."""
SIZES = ("macs", "params")
"""Those that are summed over stages; the others stand for each slot."""


class Features:
    """Turns genomes into a matrix of features; calling it takes (n, n_genes) and gives (n, n_features).

    The columns come in named groups of one scale and meaning, so that a predictor may weigh the groups
    instead of the columns:
    - `ordinal.KIND` for each kind of gene (`kernel`, `expand`...): the place of the option, 0 where the layer
      is switched off;
    - `sum.KIND` and `total.KIND`: its sums over each stage and over the network, where they have several;
    - `one_hot`: one column per option of each gene, all 0 where the layer is switched off;
    - `slot.STATISTIC`: of the block in each slot, 0 where it is empty;
    - `stage.STATISTIC`: summed over each stage;
    - `total`: MACs and parameters of the network.
    Sizes are logarithms: accuracy grows with the ratio of sizes. Single precision is enough for every
    predictor and halves the time.

    Args:
        space: where the genomes come from.
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
        of_ordinal = parts[order]
        self.parts = tuple(
            tuple(np.flatnonzero(of_ordinal == part).tolist()) for part in dict.fromkeys(parts)
        )
        """The ordinal columns of each part of the network (stem, stages, head) that has genes."""
        blocks = [(gene.stage, gene.block) for gene in space.genes]
        members = [
            [column for column, gene in enumerate(order) if blocks[gene] == block]
            for block in dict.fromkeys(blocks)
            if block[1] is not None
        ]
        self.neighbours = tuple((*a, *b) for a, b in itertools.pairwise(members))
        """The ordinal columns of each pair of blocks that follow each other."""
        groups = self._blocks(space.encode([space.smallest]))
        ends = np.cumsum([group.shape[1] for group in groups.values()]).tolist()
        self.groups = {
            name: slice(end - group.shape[1], end)
            for (name, group), end in zip(groups.items(), ends, strict=True)
        }
        self.n_features: int = ends[-1]

    def __call__(self, genomes: Genomes) -> Matrix:
        """The features of `genomes`, raw or canonical."""
        matrix = np.empty((len(genomes), self.n_features), dtype=np.float32)
        for name, block in self._blocks(genomes).items():
            matrix[:, self.groups[name]] = block
        return matrix

    def _blocks(self, genomes: Genomes) -> dict[str, NDArray[np.generic]]:
        option = ((np.asarray(genomes) + 1) * self.space.active(genomes)).astype(np.int16)  # 0: switched off
        place = option / self.space.n_options.astype(np.float32)
        slots = dict(zip(STATISTICS, self._table.per_slot(genomes), strict=True))
        sizes = {name: slots.pop(name) @ self._stages for name in SIZES}
        total = np.stack([stages.sum(axis=1) for stages in sizes.values()], axis=1)
        return {
            **{f"ordinal.{kind}": place[:, columns] for kind, columns in self._columns.items()},
            **{name: place @ matrix for name, matrix in self._sums.items()},
            "one_hot": option[:, self._gene] == self._option,
            **{f"slot.{name}": values for name, values in slots.items()},
            **{f"stage.{name}": np.log1p(stages) for name, stages in sizes.items()},
            "total": np.log1p(total),
        }


def _membership(parts: NDArray[np.str_]) -> Matrix:
    """Sums the members of equal parts, shape (n_members, n_parts)."""
    return np.stack([parts == part for part in dict.fromkeys(parts.tolist())], axis=1).astype(np.float32)


def _sums(columns: Mapping[str, NDArray[np.intp]], parts: NDArray[np.str_]) -> dict[str, Matrix]:
    """Matrices (n_genes, n_sums) that sum genes of one kind over parts and over the network."""
    sums = {}
    for kind, genes in columns.items():
        members = np.zeros((len(parts), len(set(parts[genes]))), dtype=np.float32)
        members[genes] = _membership(parts[genes])
        if members.shape[1] < len(genes):  # otherwise each sum is a gene
            sums[f"sum.{kind}"] = members
        if len(genes) > 1:
            sums[f"total.{kind}"] = members.sum(axis=1, keepdims=True)
    return sums
