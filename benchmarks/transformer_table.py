"""Table of published vision transformers: their parameters and multiply-accumulates, and the counts here.

python -m benchmarks.transformer_table --write docs/transformers.md
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import search_spaces
from benchmarks import hybrid_table
from benchmarks.markdown_page import markdown_table, print_or_write
from search_spaces import Arch, Space
from search_spaces.families.vit import ViTConfig, ViTSpace
from search_spaces.operators import Attention, RelativeTables

FILE, CODE, FORMULA = "authors' files", "authors' code", "formula"
"""Source of a figure: printed by the authors, counted by their code, or computed from the layers."""


@dataclass(frozen=True)
class Row:
    """An architecture with its published figures."""

    name: str
    space: Space
    arch: Arch
    params: int
    """Published number of parameters."""
    source: str
    """Source of the number of parameters."""
    macs: str = ""
    """Expected multiply-accumulates by the rule of this page, in G; empty: not published."""
    authors: str = ""
    """Multiply-accumulates that the authors print, in G, by another rule."""

    @property
    def macs_here(self) -> str:
        """MACs in G, rounded to the digits of `macs`, if there are any."""
        return f"{self.space.macs(self.arch) / 1e9:.{len(self.macs.partition('.')[2]) or 4}f}"

    @property
    def macs_with_positions(self) -> str:
        """MACs in G with those of relative positions; empty if the network has none."""
        extra = sum(map(_macs_of_tables, self.space.network(self.arch).nodes))
        return f"{(self.space.macs(self.arch) + extra) / 1e9:.4f}" if extra else ""


def _macs_of_tables(node: search_spaces.Node) -> int:
    """MACs of relative positions: a product with one vector per pair of tokens, for keys and for values."""
    op = node.op
    if not isinstance(op, Attention) or not isinstance(op.relative, RelativeTables):
        return 0
    return 2 * node.output.pixels * node.output.numel


def arch_of(space: Space, width: int, ratios: Sequence[float], heads: Sequence[int]) -> Arch:
    """The arch of a space that chooses an MLP ratio and a number of heads for each block."""
    values: dict[str, float] = {"resolution": space.resolutions[0], "width": width, "depth": len(heads)}
    for block, (ratio, n_heads) in enumerate(zip(ratios, heads, strict=True)):
        values[f"stages.0.blocks.{block}.heads"] = n_heads
        values[f"stages.0.blocks.{block}.mlp_ratio"] = ratio
    return Arch(values)


PRENAS: list[tuple[str, int, list[float], list[int], int, str]] = [
    ("tiny", 192, [4, 4, 4, 4, 4, 3.5, 3.5, 4, 4, 3.5, 4, 4],
     [4, 4, 4, 4, 3, 3, 3, 3, 3, 4, 3, 4], 5_994_760, "1.3198"),
    ("tiny", 216, [4, 3.5, 4, *[3.5] * 9], [4, 4, 4, 4, 4, 3, 3, 3, 4, 4, 3, 4], 6_997_192, "1.5211"),
    ("tiny", 240, [4, 3.5, 4, 4, 3.5, 3.5, 3.5, 4, 4, 3.5, 4, 3.5], [3] * 12, 7_996_552, "1.6722"),
    ("tiny", 240, [4, 4, 4, 4, 4, 3.5, 4, 4, 4, 3.5, 4, 4], [4] * 12, 8_967_016, "1.9224"),
    ("tiny", 240, [4, 4, 4, 4, 4, 3.5, 3.5, 4, 4, 3.5, 4, 3.5, 4, 4],
     [4, 4, 4, 4, 4, 3, 3, 3, 4, 4, 3, 4, 3, 4], 9_978_232, "2.1325"),
    ("tiny", 240, [4] * 14, [4] * 14, 10_517_272, "2.2632"),
    ("small", 320, [4, 4, 3.5, 4, 3.5, 4, 4, 3.5, 4, 4, 3.5, 4, 4],
     [*[7] * 8, 6, 7, 5, 6, 5], 17_991_400, "3.8598"),
    ("small", 384, [4, 4, 3.5, 4, 3.5, 4, 3.5, 3.5, 4, 4, 3, 4, 3.5],
     [7, 7, 7, 7, 5, 7, 7, 5, 6, 5, 5, 6, 5], 22_989_928, "4.7983"),
    ("small", 448, [4, 4, 3, 4, 3, 3.5, 3, 3, 4, 3, 3, 4, 3],
     [7, 7, 7, 7, 5, 7, 7, 5, 6, 5, 5, 6, 5], 27_976_008, "5.7642"),
    ("small", 448, [4, 4, 3.5, 4, 3.5, 4, 4, 3.5, 4, 4, 3.5, 4, 4, 3.5],
     [*[7] * 8, 5, 7, 5, 6, 5, 7], 32_981_640, "6.8066"),
    ("base", 528, [*[3] * 12, 3.5, 3], [9] * 14, 41_966_944, "8.7293"),
    ("base", 576, [3.5, 4, 3.5, 3.5, 3.5, 4, *[3.5] * 4, 4, 3, 3.5, 4],
     [9, 9, 10, 9, 9, 10, *[9] * 6, 10, 9], 53_876_104, "11.0767"),
    ("base", 624, [4, 4, 3.5, *[4] * 11],
     [9, 10, 10, 9, 9, 10, 10, 9, 10, 9, 9, 9, 10, 10], 65_916_448, "13.4552"),
]  # fmt: skip
"""Space, width, MLP ratios, heads, parameters and MACs of the candidates of PreNAS."""

AUTOFORMER: list[tuple[str, str, int, list[float], list[int], int, str, str]] = [
    ("T", "tiny", 192, [3.5, 3.5, 3, 3.5, 3, 3, 4, 4, 3.5, 4, 3.5, 4, 3.5],
     [*[3] * 10, 4, 3, 3], 5_867_944, "1.2832", "1.3"),
    ("S", "small", 384, [3, 3.5, 3, 3.5, *[4] * 7, 3.5, 4],
     [6, 6, 5, 7, 5, 5, 5, 6, 6, 7, 7, 6, 7], 22_891_432, "4.7739", "5.1"),
    ("B", "base", 576, [3.5, 3.5, 4, 3.5, 4, 3.5, 3.5, 3, 4, 4, 3, 4, 3, 3.5],
     [*[9] * 5, 10, 9, 9, 10, 9, 10, 9, 9, 10], 53_691_688, "11.0454", "11"),
]  # fmt: skip
"""Name, space, width, MLP ratios, heads, parameters, MACs and the authors' MACs."""

EXTREMES: list[tuple[str, float, int, int]] = [
    ("tiny", 3.5, 5_366_056, 10_517_272),
    ("small", 3, 13_057_320, 34_790_440),
    ("base", 3, 41_687_896, 76_882_264),
]
"""Space, smallest published MLP ratio, parameters of the smallest and of the largest subnet."""

TORCHVISION: list[tuple[str, int, int, int, int, int, int, int, int, str]] = [
    ("vit_b_16", 224, 16, 12, 768, 12, 64, 3072, 86_567_656, "17.564"),
    ("vit_b_16, SWAG", 384, 16, 12, 768, 12, 64, 3072, 86_859_496, "55.484"),
    ("vit_b_32", 224, 32, 12, 768, 12, 64, 3072, 88_224_232, "4.409"),
    ("vit_l_16", 224, 16, 24, 1024, 16, 64, 4096, 304_326_632, "61.555"),
    ("vit_l_16, SWAG", 512, 16, 24, 1024, 16, 64, 4096, 305_174_504, "361.986"),
    ("vit_l_32", 224, 32, 24, 1024, 16, 64, 4096, 306_535_400, "15.378"),
    ("vit_h_14, SWAG, linear", 224, 14, 32, 1280, 16, 80, 5120, 632_045_800, "167.295"),
    ("vit_h_14, SWAG", 518, 14, 32, 1280, 16, 80, 5120, 633_470_440, "1016.717"),
]
"""Name, resolution, patch, depth, width, heads, head dim, hidden channels of the MLP, parameters and MACs."""

DEIT: list[tuple[str, str, dict[str, Any], int, str, str, str]] = [
    ("DeiT-Ti", "deit-tiny", {}, 5_717_416, CODE, "1.253683200", "1.258411200"),
    ("DeiT-S", "vit-small", {}, 22_050_664, CODE, "4.598882304", "4.608338304"),
    ("DeiT-B", "vit-b16", {}, 86_567_656, CODE, "17.563828224", "17.582740224"),
    ("DeiT3-S", "vit-small", {"position": "patches", "layer_scale": 1e-6}, 22_059_496, FORMULA,
     "4.598882304", ""),
]  # fmt: skip
"""Name, space of which it is the largest subnet, changes of the space, parameters, source, MACs by the rule
of this page, and MACs by fvcore, which adds 5 for each normalized number."""


def rows() -> Iterator[Row]:
    """A row for every published architecture."""
    yield from _autoformers()
    yield from _extremes()
    for name, *numbers, params, macs in TORCHVISION:
        space = _static(name, *numbers)
        yield Row(f"torchvision {name}", space, space.largest, params, FILE, macs)
    for name, base, changes, params, source, macs, authors in DEIT:
        config = search_spaces.get(base).config.model_copy(update=changes)
        space = ViTSpace(ViTConfig.model_validate(config.model_dump()))
        yield Row(name, space, space.largest, params, source, macs, authors)


def _autoformers() -> Iterator[Row]:
    for size, width, ratios, heads, params, macs in PRENAS:
        space = search_spaces.get(f"autoformer-{size}")
        arch = arch_of(space, width, ratios, heads)
        yield Row(f"PreNAS, {params / 1e6:.1f} M", space, arch, params, FILE, macs)
    for name, size, width, ratios, heads, params, macs, authors in AUTOFORMER:
        space = search_spaces.get(f"autoformer-{size}")
        arch = arch_of(space, width, ratios, heads)
        yield Row(f"AutoFormer-{name}", space, arch, params, FORMULA, macs, authors)


def _extremes() -> Iterator[Row]:
    for size, ratio, smallest, largest in EXTREMES:
        space = search_spaces.get(f"autoformer-{size}")
        width, depth, heads = (
            int(space.choices[name].options[0]) for name in ("width", "depth", "stages.0.blocks.0.heads")
        )
        arch = arch_of(space, width, [ratio] * depth, [heads] * depth)
        yield Row("AutoFormer, smallest", space, arch, smallest, FORMULA)
        yield Row("AutoFormer, largest", space, space.largest, largest, FORMULA)


def _static(
    name: str, resolution: int, patch: int, depth: int, width: int, heads: int, head_dim: int, mlp: int
) -> Space:
    """A space with one plain vision transformer."""
    config = ViTConfig(
        name=name,
        outputs=1000,
        channels=3,
        resolutions=(resolution,),
        patch=patch,
        width=(width,),
        depth=(depth,),
        heads=(heads,),
        head_dim=head_dim,
        mlp=(mlp,),
    )
    return ViTSpace(config)


HEADER = """\
# Published vision transformers, counted

Written by `python -m benchmarks.transformer_table --write docs/transformers.md`; a test compares the two.

Parameters are those of the extracted subnet, to the unit. Multiply-accumulates (MACs) count convolutions,
linear layers and the two matrix products of attention for one image, as torchvision does; norms, softmax,
biases and positions do not count. Relative positions of AutoFormer take two more products with a vector for
each pair of tokens; a column of its own includes them.

Authors count by other rules. The figures of AutoFormer agree with no single rule: T is near the count without
relative positions, S is the count with them. fvcore, which counted DeiT, adds 5 for each normalized number.

"""

FOOTER = """
## INT8

INT8 models compute the linear layers on tokens with integers; layer norm, softmax, GELU, additions and the
products of attention stay in floating point. The inputs of these layers can be quantized with the range of
each batch (dynamic) or with that of the calibration images (static). `nas export` uses dynamic ranges,
which are faster and do not depend on the calibration images. Patches and the classifier have static ranges
in both.

Latencies of the largest subnets in ms, by `python -m benchmarks.int8_tokens` with one thread of a CPU with
AVX2 but without VNNI, ONNX Runtime 1.32, while other programs ran:

| space | fp32 | dynamic | static |
| --- | --- | --- | --- |
| `vit-digits` | 0.14 | 0.15 | 0.18 |
| `deit-tiny` | 42.65 | 29.21 | 32.01 |
| `autoformer-tiny` | 87.73 | 62.07 | 66.48 |
| `vit-small` | 139.75 | 82.12 | 94.26 |

## Latency tables

Attention and MLP of a block are separate entries, and all blocks of one width share them: a latency table
of `deit-tiny` has 7 entries at 224 px, one of `autoformer-tiny` 21. In transformers without convolutions
nearly all operations are matrix products, so MACs predict the latency nearly as well as the table; a
profile reports the errors of both. At 224 px, `nas profile deit-tiny --device NAME` had a MAPE of 1.35 % with
the table and of 1.40 % with MACs alone (measuring again: 1.53 %; 48 held-out subnets, one core of a server
with AVX-512), and a Kendall τ of 0.92 and 0.93. The table is worth its time for INT8, relative positions and
mixed networks.

Networks of convolutions and attention have more kinds of blocks: 160 entries at 224 px for `nasvit`, 753 for
`elasticvit`. Attention, each MLP and the MBConv block of an attention stage are separate entries.
"""

COLUMNS: Mapping[str, Callable[[Row], str]] = {
    "network": lambda row: row.name,
    "space": lambda row: f"`{row.space.name}`",
    "resolution": lambda row: str(row.arch["resolution"]),
    "parameters published": lambda row: f"{row.params:,}",
    "parameters here": lambda row: f"{row.space.params(row.arch):,}",
    "source": lambda row: row.source,
    "MACs expected (G)": lambda row: row.macs,
    "MACs here (G)": lambda row: row.macs_here,
    "with relative positions (G)": lambda row: row.macs_with_positions,
    "authors' count (G)": lambda row: row.authors,
}


def page() -> str:
    """The page as Markdown."""
    hybrids = markdown_table(hybrid_table.COLUMNS, hybrid_table.rows())
    return HEADER + markdown_table(COLUMNS, rows()) + hybrid_table.HEADER + hybrids + FOOTER


if __name__ == "__main__":
    print_or_write(page, __doc__)
