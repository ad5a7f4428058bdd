"""Values that add up over blocks, for many genomes at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from search_spaces.layers import Block
    from search_spaces.space import Genomes, Slot, Space


class BlockTable:
    """The value of every block that may stand in each slot of a space.

    A total is a sum over slots of table look-ups: two matrix operations for any number of genomes.

    Args:
        space: the space whose slots are tabled.
        value: the value of one block; it is called once for every block that may stand somewhere.
    """

    offset = 0.0
    """What a total has beside its slots."""

    def __init__(self, space: Space, value: Callable[[Block], float]) -> None:
        self.space = space
        self._radix = np.zeros((len(space.genes), len(space.slots)))
        self._offset = np.zeros(len(space.slots))
        values: list[float] = []
        for s, slot in enumerate(space.slots):
            self._offset[s] = len(values)
            entries = np.array([value(block) for block in space.slot_blocks(slot)], dtype=np.float64)
            columns = space.columns(slot.choices)
            step = len(entries)
            for column in columns:
                step //= int(space.n_options[column])
                self._radix[column, s] += step
            values.extend(self._gated(slot, entries, s))
        self._values = np.array(values)

    def _gated(self, slot: Slot, entries: NDArray[np.float64], s: int) -> list[float]:
        """`entries` once for every depth, zero where the depth leaves the slot empty."""
        gate = self.space.columns([slot.depth] if slot.depth else [])
        if not gate:
            return list(entries)
        assert slot.depth is not None
        self._radix[gate[0], s] += len(entries)
        depths = self.space.choices[slot.depth].options
        return [v for depth in depths for v in (entries if depth > slot.position else np.zeros_like(entries))]

    def per_slot(self, genomes: Genomes) -> NDArray[np.float64]:
        """The value of each slot, 0 where it is empty.

        Args:
            genomes: shape (n, n_genes), raw or canonical.

        Returns:
            shape (n, n_slots).
        """
        index = np.asarray(genomes, dtype=np.float64) @ self._radix + self._offset
        result: NDArray[np.float64] = self._values[index.astype(np.intp)]
        return result

    def __call__(self, genomes: Genomes) -> NDArray[np.float64]:
        """The total of each genome, added up in the order of the slots, shape (n,)."""
        total: NDArray[np.float64] = np.cumsum(self.per_slot(genomes), axis=1)[:, -1]
        return total
