"""The cost of a border: the change from one precision to another inside a network.

A border cannot be timed alone, because a runtime also converts values and changes their layout at the ends of
a graph. In ONNX Runtime, a floating-point convolution reads and writes channels in groups, and an integer
convolution reads and writes the channels last. A border is therefore a change of layout together with a
QuantizeLinear or DequantizeLinear node. Its cost is the latency of a graph with borders minus the latency of
the parts of the graph. Three kinds of graphs are timed:

- Chains of calibration convolutions (see `block_timing`) at one feature map with one border, `fp32 int8` and
  `int8 fp32`, give the cost of each direction. The latency of a block inside a network contains half of the
  cost of the ends of a graph in the precision of the block; border costs from these chains can be added to
  such latencies.
- Round trips, `fp32 int8 fp32` and `int8 fp32 fp32 int8`, have borders as inside a network. The second has
  two floating-point convolutions, because ONNX Runtime may compute a single one between integer convolutions
  with integers as well.
- Single blocks between calibration convolutions of the other precision have one border of each direction, at
  different feature maps if the output of the block differs from its input in shape. If an INT8 part of a
  network begins at a large feature map and ends at a small one, the relation between the costs of both
  directions matters; these graphs determine it, but round trips at one feature map cannot.

Feature maps that several nodes of a block read, because the block has a shortcut, have separate costs: ONNX
Runtime changes the layout for the shortcut too.

A line is fitted to all graphs: the cost of a border is a + b · elements of the feature map, with separate
numbers a and b for each direction, with and without a shortcut. A single measurement is a difference of a few
microseconds between graphs that take many times as long; the line averages over many of them. The numbers are
not negative, and errors count relative to the latency of the graph.

Tokens have no border: INT8 blocks keep them in floating point. Only matrix products convert their inputs.

If a block ends with an operator that is not computed with integers, such as a stem with hard-swish, its
outputs are floating-point values even if the block is in INT8. A floating-point block after it needs no
conversion, so there is no border.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar

import numpy as np
import pandas as pd

from hw_profiles.latency_models.block_timing import Boundary, BoundaryTimes, TimedBlock, timed_blocks
from hw_profiles.latency_models.prediction_error import Latencies
from hw_profiles.latency_models.robust_regression import Affine
from search_spaces import Block, Space
from search_spaces.block_precision import (
    border,
    in_precision,
    precision_of,
    reads_floats,
    without_border,
)
from search_spaces.operators import Convert
from search_spaces.tensors import FP32, INT8, Precision, TensorSpec

Item = TypeVar("Item")
Kind = tuple[Precision, Precision, bool]
"""Kind of a border: its precisions before and after, and whether it is shared (see `Border`)."""

COLUMNS = ("spec", "from", "to", "shared", "ms")
DIRECTIONS = ((FP32, INT8), (INT8, FP32))
MAX_SPECS, MAX_BLOCKS = 24, 12
"""Numbers of feature maps, and of blocks of each precision with and without a shortcut, for which graphs are
timed, from small to large; two parameters for each line need no more."""
_TYPICAL_ERROR = 0.01
"""Errors above this share of a graph's latency count linearly, not squared."""


class Border(NamedTuple):
    """A feature map that is converted from one precision to another."""

    spec: TensorSpec
    """The feature map, in floating point."""
    source: Precision
    target: Precision
    shared: bool
    """Whether several nodes of the block read it."""

    @property
    def kind(self) -> Kind:
        """The kind of the border, on which its cost depends."""
        return self.source, self.target, self.shared

    @property
    def free(self) -> bool:
        """Whether nothing is converted, which holds for tokens."""
        return self.spec.layout == "tokens"


def borders_of(block: Block) -> list[Border]:
    """The borders at the start of a block where values are converted."""
    found: list[Border] = []
    if reads_floats(block):
        return found
    for i, node in enumerate(border(block)):
        assert isinstance(node.op, Convert)
        readers = sum(reader.inputs.count(i) for reader in block.nodes)
        spec = node.specs[0]
        found.append(Border(_in(spec, FP32), spec.precision, node.op.precision, readers > 1))
    return found


class BorderTable:
    """The costs of borders by feature map and kind.

    Args:
        rows: one row for each border: `spec`, `from`, `to`, `shared` and `ms`.
    """

    def __init__(self, rows: pd.DataFrame) -> None:
        self.ms: Mapping[tuple[str, str, str, bool], float] = {
            (spec, source, target, bool(shared)): ms
            for spec, source, target, shared, ms in rows[list(COLUMNS)].itertuples(index=False)
        }

    def __call__(self, block: Block) -> float:
        """The cost of the borders of a block in ms; NaN if one was not measured."""
        return float(sum(map(self._one, borders_of(block))))

    def _one(self, one: Border) -> float:
        return 0.0 if one.free else self.ms.get((str(one.spec), *one.kind), np.nan)


@dataclass(frozen=True)
class BorderGraph:
    """A graph with borders: calibration convolutions of different precision, and at most one block."""

    parts: tuple[Boundary | TimedBlock, ...]
    """The parts in order; a boundary stands for a calibration convolution. The first and the last part are
    boundaries."""

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The blocks of the graph that is timed, with their borders."""
        plain = [
            part.block if isinstance(part, TimedBlock) else part.calibration_convs(1, f"calibration{i}")
            for i, part in enumerate(self.parts)
        ]
        precisions = [precision_of(block) for block in plain]
        entering = [precisions[0], *precisions]
        return tuple(
            in_precision(without_border(block), precision, before)
            for block, precision, before in zip(plain, precisions, entering, strict=False)
        )

    @property
    def borders(self) -> list[Border]:
        """The borders of the graph, in order."""
        return [one for block in self.blocks for one in borders_of(block)]

    @property
    def boundaries(self) -> list[Boundary]:
        """The boundaries whose calibration convolutions the graph has."""
        return [part for part in self.parts if isinstance(part, Boundary)]

    @property
    def timed(self) -> list[TimedBlock]:
        """The blocks of the graph that are not calibration convolutions."""
        return [part for part in self.parts if isinstance(part, TimedBlock)]

    def parts_ms(
        self, boundaries: Mapping[Boundary, BoundaryTimes], block_ms: Mapping[TimedBlock, float]
    ) -> float:
        """The latency of the graph without its borders.

        Args:
            boundaries: measured times of the calibration convolutions.
            block_ms: latency of each block inside a network.
        """
        convs = [boundaries[boundary] for boundary in self.boundaries]
        ends = (convs[0].overhead_ms + convs[-1].overhead_ms) / 2
        blocks = sum(block_ms[timed] for timed in self.timed)
        return ends + blocks + sum(times.conv_ms for times in convs)


def borders_in(space: Space) -> list[Border]:
    """All borders between the blocks of a space that are not free, from small to large.

    Args:
        space: the space without the precision as a choice.
    """
    found = {
        one: None
        for source, target in DIRECTIONS
        for timed in timed_blocks(space, space.slots[1:]).values()
        for one in borders_of(in_precision(timed.block, target, source))
        if not one.free
    }
    return sorted(found, key=lambda one: (one.spec.numel, str(one.spec), one.kind))


def border_graphs(space: Space, blocks: Mapping[str, TimedBlock]) -> list[BorderGraph]:
    """The graphs that are timed to find the costs of borders.

    Args:
        space: the space without the precision as a choice.
        blocks: its blocks in both precisions by key.
    """
    graphs = []
    for spec in _spread(list(dict.fromkeys(one.spec for one in borders_in(space))), MAX_SPECS):
        f, i = (Boundary(_in(spec, precision)) for precision in (FP32, INT8))
        graphs += [BorderGraph(parts) for parts in ((f, i), (i, f), (f, i, f), (i, f, f, i))]
    cases: dict[Kind, dict[tuple[Boundary, ...], BorderGraph]] = {}
    for timed in blocks.values():
        if len(timed.boundaries) == 2 and all(end.spec.layout == "image" for end in timed.boundaries):
            other = FP32 if precision_of(timed.block) == INT8 else INT8
            before, after = (Boundary(_in(end.spec, other)) for end in timed.boundaries)
            graph = BorderGraph((before, timed, after))
            cases.setdefault(graph.borders[0].kind, {}).setdefault(timed.boundaries, graph)
    for case in cases.values():
        graphs += _spread(sorted(case.values(), key=lambda graph: graph.borders[0].spec.numel), MAX_BLOCKS)
    return graphs


def fit_borders(
    graphs: Sequence[BorderGraph], measured_ms: Latencies, parts_ms: Latencies
) -> dict[Kind, Affine]:
    """The cost of a border of each kind, as a function of the elements of its feature map.

    Args:
        graphs: the timed graphs.
        measured_ms: latency of each graph, shape (n,).
        parts_ms: latency of each graph without borders, see `BorderGraph.parts_ms`, shape (n,).
    """
    from scipy.optimize import least_squares  # slow to import

    costs = measured_ms - parts_ms
    kinds = list(dict.fromkeys(one.kind for graph in graphs for one in graph.borders))
    rows = np.zeros((len(graphs), 2 * len(kinds)))
    for row, graph in zip(rows, graphs, strict=True):
        for one in graph.borders:
            place = 2 * kinds.index(one.kind)
            row[place : place + 2] += 1, one.spec.numel
    scale = max(float(np.median(np.abs(costs))), 1e-6) / np.maximum(rows.max(axis=0), 1)

    def residuals(parameters: Latencies) -> Latencies:
        error: Latencies = (rows @ (parameters * scale) - costs) / measured_ms
        return error

    fitted = least_squares(
        residuals,
        np.ones(rows.shape[1]),
        bounds=(0, np.inf),
        loss="soft_l1",
        f_scale=_TYPICAL_ERROR,
        ftol=1e-13,
        xtol=1e-13,
        gtol=1e-13,
    ).x
    values = fitted * scale
    return {
        kind: Affine(slope=float(values[2 * i + 1]), intercept_ms=float(values[2 * i]))
        for i, kind in enumerate(kinds)
    }


def border_frame(borders: Iterable[Border], costs: Mapping[Kind, Affine]) -> pd.DataFrame:
    """The rows of a `BorderTable`.

    Args:
        borders: the borders of a space.
        costs: the cost of a border of each kind that was timed.
    """
    rows = []
    for one in borders:
        line = costs.get(one.kind, costs[one.source, one.target, False])
        rows.append((str(one.spec), *one.kind, line(float(one.spec.numel))))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _in(spec: TensorSpec, precision: Precision) -> TensorSpec:
    return replace(spec, precision=precision)


def _spread(items: Sequence[Item], n: int) -> list[Item]:
    """At most `n` of the items, evenly spread."""
    places = np.linspace(0, len(items) - 1, min(n, len(items))).round().astype(int)
    return [items[place] for place in places]
