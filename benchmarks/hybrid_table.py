"""Published networks of convolutions and attention: the authors' counts of operations, and the counts here.

`benchmarks.transformer_table` writes the table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import search_spaces
from nas.notation.elasticvit import arch_from_elasticvit
from search_spaces import Arch, Block, Node, Space
from search_spaces.operators import Attention

ELASTICVIT: list[tuple[str, list[Any], str]] = [
    ("T1", [128, [16, 24, 32, 64, 96, 176, 272], [1, 2, 3, 1, 1, 1, 1], [1, 3, 3, 3, 3, 3],
            [3] * 6, [2, 2, 3, 4], [4, 6, 11, 17], [1] * 4, [1] * 4, [2] * 4], "62.92"),
    ("T2", [160, [16, 24, 40, 48, 96, 176, 256], [1, 2, 3, 1, 1, 2, 2], [1, 3, 3, 3, 3, 3],
            [3] * 6, [3, 4, 3, 3, 2, 2], [3, 6, 11, 11, 16, 16], [1] * 6, [1] * 6, [2] * 6], "119.98"),
    ("S1", [192, [16, 24, 40, 64, 96, 192, 272], [1, 3, 3, 2, 2, 2, 2], [1, 3, 3, 3, 3, 3, 3],
            [3] * 7, [2, 2, 2, 2, 3, 3, 4, 4], [4, 4, 6, 6, 12, 12, 17, 17],
            [1] * 8, [1] * 8, [2] * 8], "217.64"),
    ("S2", [224, [16, 24, 48, 64, 96, 192, 256], [1, 3, 3, 2, 2, 2, 2], [1, 3, 3, 3, 3, 3, 3],
            [3] * 7, [2, 2, 2, 2, 2, 2, 4, 4], [4, 4, 6, 6, 12, 12, 16, 16],
            [1] * 8, [1] * 8, [2] * 8], "318.53"),
    ("M", [224, [16, 32, 48, 64, 96, 192, 288], [1, 3, 5, 2, 2, 2, 2], [1, 3, 3, 3, 3, 3, 3, 3, 3],
           [5, 3, 3, 3, 3, 3, 3, 3, 3], [2, 2, 4, 4, 4, 4, 5, 5], [4, 4, 6, 6, 12, 12, 18, 18],
           [1] * 8, [1] * 8, [2] * 8], "415.58"),
    ("L1", [256, [16, 24, 40, 64, 96, 192, 320], [1, 3, 3, 2, 2, 2, 2], [1, 3, 3, 3, 6, 6, 6],
            [5] * 7, [4, 4, 3, 3, 4, 4, 4, 4], [4, 4, 6, 6, 12, 12, 20, 20],
            [1] * 8, [1] * 8, [2] * 8], "517.11"),
    ("L1.5", [256, [16, 24, 48, 64, 96, 256, 320], [2, 4, 4, 2, 2, 2, 2], [1, 1, 3, 3, 3, 3, 4, 4, 4, 4],
              [3, 3, 3, 3, 3, 3, 5, 5, 5, 5], [4, 4, 5, 5, 3, 3, 5, 5], [4, 4, 6, 6, 16, 16, 20, 20],
              [1] * 8, [1] * 8, [2] * 8], "618.78"),
    ("L2", [256, [16, 24, 40, 80, 128, 256, 304], [1, 3, 4, 2, 2, 2, 2], [1, 6, 6, 6, 6, 6, 6, 6],
            [3] * 8, [3, 3, 2, 2, 3, 3, 5, 5], [5, 5, 8, 8, 16, 16, 19, 19],
            [1] * 8, [1] * 8, [2, 2, 2, 2, 2, 2, 3, 3]], "704.11"),
    ("L3", [256, [16, 32, 48, 80, 128, 256, 320], [1, 3, 4, 2, 2, 2, 2], [1, 5, 5, 5, 5, 5, 5, 5],
            [5, 3, 3, 3, 5, 5, 5, 5], [4, 4, 4, 4, 3, 3, 5, 5], [5, 5, 8, 8, 16, 16, 20, 20],
            [1] * 8, [1] * 8, [2] * 8], "815.40"),
]  # fmt: skip
"""Name, notation of the authors, and their count in M."""


@dataclass(frozen=True)
class HybridRow:
    """An architecture with the count of its authors."""

    name: str
    space: Space
    arch: Arch
    published: str
    """Operations that the authors' code prints, in M."""
    count: Callable[[Space, Arch], int]
    """The count by the authors' rules."""

    @property
    def count_here(self) -> str:
        """Operations by the authors' rules, in M."""
        return f"{self.count(self.space, self.arch) / 1e6:.2f}"


def rows() -> Iterator[HybridRow]:
    """A row for every published architecture."""
    space = search_spaces.get("nasvit")
    yield HybridRow("NASViT, smallest", space, space.smallest, "189.79", lambda s, arch: s.macs(arch))
    yield HybridRow("NASViT, largest", space, space.largest, "1881.71", lambda s, arch: s.macs(arch))
    space = search_spaces.get("elasticvit")
    for name, notation, published in ELASTICVIT:
        arch = arch_from_elasticvit(space, notation)
        yield HybridRow(f"ElasticViT-{name}", space, arch, published, elasticvit_count)


def elasticvit_count(space: Space, arch: Arch) -> int:
    """Operations by the rules of ElasticViT's code."""
    return sum(_of_node(block, node) for block in space.blocks(arch) for node in block.nodes)


def _of_node(block: Block, node: Node) -> int:
    """Operations of a node.

    In attention stages, the depthwise convolution of values counts one operation for each output instead of
    nine, the softmax one for each attention weight, and SE and shortcuts none. The side of the feature map
    before a stride counts as twice the side after it, even if the latter was rounded up. Each shortcut across
    a stride in a convolution stage counts as a 1×1 convolution, even between equal widths.
    """
    if block.name.endswith(".entry"):
        if node.name.startswith(("se.", "shortcut")):
            return 0
        depthwise = next(n for n in block.nodes if n.name == "depthwise")
        if node.name == "expand" and depthwise.specs[0].size != depthwise.output.size:
            return node.macs // node.output.pixels * 4 * depthwise.output.pixels
    if node.name == "value.depthwise":
        return node.macs // 9
    if isinstance(node.op, Attention):
        return node.macs + node.op.heads * node.output.pixels**2
    pooled_only = block.name.startswith("stages.") and not any(n.name == "shortcut.conv" for n in block.nodes)
    if node.name == "shortcut.pool" and pooled_only:
        return node.output.numel * node.output.channels
    return node.macs


HEADER = """
## Convolutions and attention

Operations by the authors' own rules, and by the rule of this page. NASViT counts as this page does. The code
of ElasticViT counts one operation for each output of the depthwise convolution of values instead of nine, one
for each number in a softmax, a pointwise convolution for each shortcut across a stride in the first stages,
and neither squeeze-and-excitation nor shortcuts in the attention stages, where it also takes maps before a
stride for twice as large as after it. The authors publish no numbers of parameters for these subnets.

"""

COLUMNS: Mapping[str, Callable[[HybridRow], str]] = {
    "network": lambda row: row.name,
    "space": lambda row: f"`{row.space.name}`",
    "resolution": lambda row: str(row.arch["resolution"]),
    "parameters here": lambda row: f"{row.space.params(row.arch):,}",
    "authors' count (M)": lambda row: row.published,
    "authors' rules here (M)": lambda row: row.count_here,
    "MACs here (M)": lambda row: f"{row.space.macs(row.arch) / 1e6:.2f}",
}
