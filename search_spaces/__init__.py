"""Search spaces, architectures, genomes and the graph of a network, without torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from search_spaces.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from search_spaces.arch import Arch as Arch
    from search_spaces.catalog import get as get
    from search_spaces.catalog import names as names
    from search_spaces.catalog import parse as parse
    from search_spaces.choices import Choice as Choice
    from search_spaces.genomes import Genomes as Genomes
    from search_spaces.graph import BLOCK_INPUT as BLOCK_INPUT
    from search_spaces.graph import Block as Block
    from search_spaces.graph import Node as Node
    from search_spaces.graph import block_key as block_key
    from search_spaces.space import Slot as Slot
    from search_spaces.space import Space as Space
    from search_spaces.tables import BlockTable as BlockTable
    from search_spaces.tables import SlotTable as SlotTable
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "Arch": "search_spaces.arch",
            "get": "search_spaces.catalog",
            "names": "search_spaces.catalog",
            "parse": "search_spaces.catalog",
            "Choice": "search_spaces.choices",
            "Genomes": "search_spaces.genomes",
            "BLOCK_INPUT": "search_spaces.graph",
            "Block": "search_spaces.graph",
            "Node": "search_spaces.graph",
            "block_key": "search_spaces.graph",
            "Slot": "search_spaces.space",
            "Space": "search_spaces.space",
            "BlockTable": "search_spaces.tables",
            "SlotTable": "search_spaces.tables",
        },
    )
