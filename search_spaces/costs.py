"""Costs of many architectures at once, as tables over the blocks of a space.

Building a table visits every block of a space, so tables are cached.
"""

from __future__ import annotations

from functools import lru_cache

from search_spaces.memory import peak_memory_bytes
from search_spaces.space import Space
from search_spaces.tables import BlockTable


@lru_cache(maxsize=32)
def macs_table(space: Space) -> BlockTable:
    """Multiply-accumulates for one image of each genome."""
    return BlockTable(space, lambda block: block.macs)


@lru_cache(maxsize=32)
def params_table(space: Space) -> BlockTable:
    """Number of learned parameters of each genome's network."""
    return BlockTable(space, lambda block: block.params)


@lru_cache(maxsize=32)
def peak_memory_table(space: Space) -> BlockTable:
    """Peak memory of every block in bytes; `SlotTable.largest` returns the peak of each genome's network."""
    return BlockTable(space, peak_memory_bytes)
