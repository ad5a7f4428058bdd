"""What a predictor sees of an architecture: numbers read from genomes, for any family of spaces."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from search_spaces import Block, BlockTable, Genomes, Slot, Space

Matrix = NDArray[np.float64]

STATISTICS: dict[str, Callable[[Block], float]] = {
    "macs": lambda block: sum(layer.macs for layer in block),
    "params": lambda block: sum(layer.params for layer in block),
    "channels": lambda block: max(layer.c_out for layer in block),
    "shortcut": lambda block: any(layer.op == "add" for layer in block),
    "depth": lambda block: 1,
}
"""Numbers of one block. `shortcut` matters where a width choice decides whether the block has one."""


class Features:
    """Turns genomes into a matrix of features; calling it takes (n, n_genes) and gives (n, n_features).

    The columns come in named groups of one scale and meaning, so that a predictor may weigh the groups
    instead of the columns:
    - `ordinal.KIND` for each kind of gene (`kernel`, `expand`...): the place of the option, 0 where the layer
      is switched off;
    - `one_hot`: one column per option of each gene, all 0 where the layer is switched off;
    - `slot.STATISTIC`: of the block in each slot, 0 where it is empty;
    - `stage.STATISTIC`: summed over each stage;
    - `total`: MACs and parameters of the network.
    Sizes are logarithms: accuracy grows with the ratio of sizes.

    Args:
        space: where the genomes come from.
    """

    def __init__(self, space: Space) -> None:
        self.space = space
        self._switchable = np.array([gene.depth is not None for gene in space.genes])
        self._first_option = np.concatenate([[0], np.cumsum(space.n_options)])
        self._kinds = [gene.name.rsplit(".", 1)[-1] for gene in space.genes]
        self._tables = {name: BlockTable(space, value) for name, value in STATISTICS.items()}
        self._stages = _membership(space.slots)
        blocks = self._blocks(space.encode([space.smallest]))
        ends = np.cumsum([block.shape[1] for block in blocks.values()]).tolist()
        self.groups = {
            name: slice(end - block.shape[1], end)
            for (name, block), end in zip(blocks.items(), ends, strict=True)
        }
        self.n_features: int = ends[-1]

    def __call__(self, genomes: Genomes) -> Matrix:
        """The features of `genomes`, raw or canonical."""
        return np.concatenate(list(self._blocks(genomes).values()), axis=1)

    def _blocks(self, genomes: Genomes) -> dict[str, Matrix]:
        genomes = self.space.canonical(genomes)
        active = self._active(genomes)
        ordinal = (genomes + 1) / self.space.n_options * active
        blocks = {f"ordinal.{kind}": ordinal[:, self._of_kind(kind)] for kind in dict.fromkeys(self._kinds)}
        blocks["one_hot"] = np.zeros((len(genomes), self._first_option[-1]))
        np.put_along_axis(blocks["one_hot"], self._first_option[:-1] + genomes, active, axis=1)
        slots = {name: table.per_slot(genomes) for name, table in self._tables.items()}
        blocks |= {f"slot.{name}": np.log1p(slots[name]) for name in ("channels", "shortcut", "depth")}
        stages = {name: slots[name] @ self._stages for name in ("macs", "params")}
        blocks |= {f"stage.{name}": np.log1p(sums) for name, sums in stages.items()}
        blocks["total"] = np.log1p(np.stack([sums.sum(axis=1) for sums in stages.values()], axis=1))
        return blocks

    def _active(self, genomes: Genomes) -> Matrix:
        """1 where a gene belongs to a layer that exists, else 0, shape (n, n_genes)."""
        probe = np.where(self._switchable, 1, genomes)
        return np.where(self._switchable, self.space.canonical(probe), 1).astype(np.float64)

    def _of_kind(self, kind: str) -> list[int]:
        return [column for column, name in enumerate(self._kinds) if name == kind]


def _membership(slots: tuple[Slot, ...]) -> Matrix:
    """Sums slots over stem, stages and head, (n_slots, n_sums)."""
    owners = [slot.name.partition(".")[0] if slot.stage is None else slot.stage for slot in slots]
    sums = list(dict.fromkeys(owners))
    return np.array([[owner == other for other in sums] for owner in owners], dtype=np.float64)
