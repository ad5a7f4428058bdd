"""Table of published multiply-accumulates and parameters and the counts of this toolkit.

python -m benchmarks.published_table --write docs/published.md
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import search_spaces
from benchmarks.markdown_page import markdown_table, print_or_write
from nas.notation.attentivenas import arch_from_attentivenas
from nas.notation.ofa import arch_from_ofa
from search_spaces import Arch, Space

PAPER, CODE = "authors", "authors' code"
"""Source of a figure: published by the authors, or counted on the network that their code builds."""


@dataclass(frozen=True)
class Row:
    """An architecture with its published figures in millions, as text with the published digits."""

    name: str
    space: Space
    arch: Arch
    macs: str
    params: str
    source: str

    @property
    def note(self) -> str:
        """Empty if both counts agree with the published figures, otherwise the reason of the difference."""
        if self.ours == (self.macs, self.params):
            return ""
        return KNOWN_DIFFERENCES.get((self.space.name, self.params), "differs, unexplained")

    @property
    def ours(self) -> tuple[str, str]:
        """Counts of MACs and parameters, rounded to the digits of `macs` and `params`."""
        return (
            _rounded(self.space.macs(self.arch), self.macs),
            _rounded(self.space.params(self.arch), self.params),
        )


def _rounded(count: int, like: str) -> str:
    return f"{count / 1e6:.{len(like.partition('.')[2])}f}"


OFA_LARGEST = {"ks": 7, "e": 6, "d": 4}
OFA_SMALLEST = {"ks": 3, "e": 3, "d": 2}
RESNET_LARGEST = {"d": 2, "e": 0.35, "w": 2}
RESNET_SMALLEST = {"d": 0, "e": 0.2, "w": 0}

OFA_EXTREMES: list[tuple[str, str, Mapping[str, Any], str, tuple[str, str, str]]] = [
    ("ofa-mbv3-w1.0", "largest", OFA_LARGEST, "7.665", ("188.25", "291.32", "566.17")),
    ("ofa-mbv3-w1.0", "smallest", OFA_SMALLEST, "3.411", ("41.48", "63.24", "121.28")),
    ("ofa-mbv3-w1.2", "largest", OFA_LARGEST, "10.702", ("279.99", "433.56", "843.10")),
    ("ofa-mbv3-w1.2", "smallest", OFA_SMALLEST, "4.603", ("65.54", "100.32", "193.08")),
    ("ofa-proxyless-w1.3", "largest", OFA_LARGEST, "7.942", ("329.25", "513.52", "1004.91")),
    ("ofa-proxyless-w1.3", "smallest", OFA_SMALLEST, "3.719", ("87.82", "136.29", "265.53")),
    ("ofa-resnet50", "largest", RESNET_LARGEST, "48.106", ("2447.6", "3823.3", "7491.6")),
    ("ofa-resnet50", "smallest", RESNET_SMALLEST, "6.539", ("315.1", "491.6", "962.2")),
]
"""Space, name, arch, parameters, and MACs at each of `OFA_RESOLUTIONS`."""
OFA_RESOLUTIONS = (128, 160, 224)
KNOWN_DIFFERENCES: Mapping[tuple[str, str], str] = {
    (
        "ofa-mbv3-w1.2",
        "4.603",
    ): "parameters differ: the network that the authors' package builds has 4,602,456",
}
"""Reasons of differences, by space and published figure."""

ATTENTIVENAS: list[tuple[str, int, list[int], list[int], list[int], list[int], str, str, str]] = [
    ("A0, the smallest", 192, [16, 16, 24, 32, 64, 112, 192, 216, 1792], [1, 3, 3, 3, 3, 3, 1],
     [3] * 7, [1, 4, 4, 4, 4, 6, 6], "203.390", "8.954", CODE),
    ("A1", 224, [16, 16, 24, 32, 64, 112, 192, 216, 1984], [1, 3, 3, 3, 3, 3, 1],
     [3, 3, 3, 5, 3, 5, 3], [1, 4, 4, 4, 4, 6, 6], "279", "9.453", PAPER),
    ("A2", 224, [16, 16, 24, 32, 64, 112, 200, 224, 1984], [1, 3, 3, 3, 3, 4, 1],
     [3, 3, 3, 3, 3, 5, 3], [1, 4, 5, 4, 4, 6, 6], "317", "11.150", PAPER),
    ("A4", 256, [16, 16, 24, 32, 64, 112, 192, 216, 1984], [1, 3, 3, 4, 3, 5, 1],
     [3, 3, 3, 5, 3, 5, 3], [1, 4, 4, 5, 4, 6, 6], "444", "11.810", PAPER),
    ("the largest", 288, [24, 24, 32, 40, 72, 128, 216, 224, 1984], [2, 5, 6, 6, 8, 8, 2],
     [5] * 7, [1, 6, 6, 6, 6, 6, 6], "1939.336", "23.404", CODE),
]  # fmt: skip
"""Name, resolution, width, depth, kernel_size, expand_ratio, MACs, parameters (always counted on the network
of the authors' code), and source of the MACs."""


def rows() -> Iterator[Row]:
    """A row for every published architecture whose layers are known."""
    for name, size, notation, params, counts in OFA_EXTREMES:
        space = search_spaces.get(name)
        for resolution, macs in zip(OFA_RESOLUTIONS, counts, strict=True):
            arch = arch_from_ofa(space, {**notation, "r": resolution})
            yield Row(f"OFA, {size}", space, arch, macs, params, CODE)
    space = search_spaces.get("attentivenas")
    for model, resolution, width, depth, kernel, expand, macs, params, source in ATTENTIVENAS:
        notation = {"resolution": resolution, "width": width, "depth": depth}
        notation |= {"kernel_size": kernel, "expand_ratio": expand}
        arch = arch_from_attentivenas(space, notation)
        yield Row(f"AttentiveNAS, {model}", space, arch, macs, params, source)


HEADER = """\
# Published architectures, counted

Written by `python -m benchmarks.published_table --write docs/published.md`; a test compares the two.

Multiply-accumulates count convolutions (those of squeeze-and-excitation and of executed shortcuts too) and
linear layers for one image, nothing else. Parameters are those of the extracted subnet: kernel-transform
matrices and shortcuts that are never executed do not count. Ours are rounded to the digits of the published
figure; `nas describe SPACE --arch FILE.json` prints them to the unit. "authors' code" marks figures that the
authors do not print and that were counted on the network which their code builds; parameters of AttentiveNAS
always were. OFA's specialised networks are missing: their layers are known only from the files that come with
their weights. Where a count differs from the figure on record, the row says so and why.

"""

COLUMNS: Mapping[str, Callable[[Row], str]] = {
    "network": lambda row: row.name,
    "space": lambda row: f"`{row.space.name}`",
    "resolution": lambda row: str(row.arch["resolution"]),
    "MACs published (M)": lambda row: row.macs,
    "MACs here (M)": lambda row: row.ours[0],
    "parameters published (M)": lambda row: row.params,
    "parameters here (M)": lambda row: row.ours[1],
    "source of MACs": lambda row: row.source,
    "note": lambda row: row.note,
}


def page() -> str:
    """The page as Markdown."""
    return HEADER + markdown_table(COLUMNS, rows())


if __name__ == "__main__":
    print_or_write(page, __doc__)
