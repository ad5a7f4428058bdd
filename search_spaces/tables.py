"""Sums and maxima of block values for many genomes at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from search_spaces.genomes import Genomes
from search_spaces.graph import Block
from search_spaces.space import Slot, Space


class SlotTable:
    """Values of all blocks that the slots of a space can hold.

    The total of a genome is a sum of table look-ups over the slots: two matrix operations for any number
    of genomes.

    Args:
        space: the space.
        entries: for each slot, the values of the blocks of `space.slot_blocks` in their order; or k values
            per block, shape (n_blocks, k).
        offset: constant that is added to every total.
    """

    def __init__(self, space: Space, entries: Sequence[NDArray[np.float64]], offset: float = 0.0) -> None:
        self.space, self.entries, self.offset = space, entries, offset
        self._radix = np.zeros((len(space.genes), len(space.slots)))
        self._offset = np.zeros(len(space.slots))
        values: list[NDArray[np.float64]] = []
        for s, (slot, slot_entries) in enumerate(zip(space.slots, entries, strict=True)):
            self._offset[s] = sum(map(len, values))
            step = len(slot_entries)
            for column in space.columns(slot.choices):
                step //= int(space.n_options[column])
                self._radix[column, s] += step
            values.append(self._gated(slot, slot_entries, s))
        self._values = np.ascontiguousarray(np.concatenate(values).T)

    def _gated(self, slot: Slot, entries: NDArray[np.float64], s: int) -> NDArray[np.float64]:
        """`entries` for every depth, zero if the depth leaves the slot empty."""
        gate = self.space.columns([slot.depth] if slot.depth else [])
        if not gate:
            return entries
        assert slot.depth is not None
        self._radix[gate[0], s] += len(entries)
        depths = self.space.choices[slot.depth].options
        zeros = np.zeros_like(entries)
        return np.concatenate([entries if depth > slot.position else zeros for depth in depths])

    def per_slot(self, genomes: Genomes) -> NDArray[np.float64]:
        """The value of each slot, 0 if it is empty.

        Args:
            genomes: shape (n, n_genes), raw or canonical.

        Returns:
            shape (n, n_slots), or (k, n, n_slots).
        """
        index = np.asarray(genomes, dtype=np.float64) @ self._radix + self._offset
        result: NDArray[np.float64] = self._values.take(index.astype(np.intp), axis=-1)
        return result

    def __call__(self, genomes: Genomes) -> NDArray[np.float64]:
        """The total of each genome, summed in the order of the slots; shape (n,) or (k, n)."""
        total: NDArray[np.float64] = np.cumsum(self.per_slot(genomes), axis=-1)[..., -1] + self.offset
        return total

    def largest(self, genomes: Genomes) -> NDArray[np.float64]:
        """The largest value of the blocks of each genome, shape (n,); values must not be negative."""
        result: NDArray[np.float64] = self.per_slot(genomes).max(axis=1)
        return result


class BlockTable(SlotTable):
    """A quantity of blocks, summed over a network.

    Args:
        space: the space.
        value: returns the value of a block, or k values; it is called once for each block object.
        offset: constant that is added to every total.
    """

    def __init__(
        self, space: Space, value: Callable[[Block], float | Sequence[float]], offset: float = 0.0
    ) -> None:
        entries = [_values(space.slot_blocks(slot), value) for slot in space.slots]
        super().__init__(space, entries, offset)


def _values(
    blocks: Iterable[Block], value: Callable[[Block], float | Sequence[float]]
) -> NDArray[np.float64]:
    """The values of blocks, computed once for each block object, which may occur many times in a slot."""
    known: dict[int, tuple[Block, float | Sequence[float]]] = {}  # the blocks stay alive with their ids
    values = []
    for block in blocks:
        if id(block) not in known:
            known[id(block)] = block, value(block)
        values.append(known[id(block)][1])
    return np.array(values, dtype=np.float64)
