"""Search spaces, architectures, genomes and the graph of a network, without torch."""

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
