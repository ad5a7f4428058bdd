"""The terms of the latency of a node: a roofline model for each kind of operator.

The latency of a node is a launch plus its computation or its memory traffic, whichever is slower (Williams,
Waterman and Patterson, Roofline, CACM 2009); the speed of both depends on the kind of operator.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from math import log2, sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from search_spaces import Block, Node
from search_spaces import operators as ops

Vector = NDArray[np.float64]

KINDS = ("pointwise", "depthwise", "dense", "linear", "pool", "elementwise", "resize", "attention", "norm")
COMPUTING = ("pointwise", "depthwise", "dense", "linear", "attention")
"""Kinds that have MACs."""
TERMS = ("launch", *(f"traffic.{kind}" for kind in KINDS), *(f"macs.{kind}" for kind in COMPUTING))
"""Names of the elements of `terms`."""


def _of_conv(node: Node) -> str:
    assert isinstance(node.op, ops.Conv2d)
    if node.op.groups > 1:
        return "depthwise"
    return "pointwise" if node.op.kernel == (1, 1) else "dense"


def _always(kind: str) -> Callable[[Node], str]:
    return lambda node: kind


KIND_OF: Mapping[type[ops.Operator], Callable[[Node], str] | None] = {
    ops.Conv2d: _of_conv,
    ops.Linear: _always("linear"),
    ops.BatchNorm: None,
    ops.LayerNorm: _always("norm"),
    ops.GroupNorm: _always("norm"),
    ops.Scale: _always("elementwise"),
    ops.Relu: None,
    ops.Relu6: None,
    ops.HardSwish: None,
    ops.Swish: None,
    ops.Sigmoid: None,
    ops.HardSigmoid: None,
    ops.Gelu: _always("elementwise"),
    ops.GeluTanh: _always("elementwise"),
    ops.Mish: _always("elementwise"),
    ops.LeakyRelu: None,
    ops.PRelu: _always("elementwise"),
    ops.Elu: _always("elementwise"),
    ops.Tanh: _always("elementwise"),
    ops.Arithmetic: _always("elementwise"),
    ops.ChannelArithmetic: _always("elementwise"),
    ops.AvgPool2d: _always("pool"),
    ops.MaxPool2d: _always("pool"),
    ops.GlobalAvgPool: _always("pool"),
    ops.GlobalMaxPool: _always("pool"),
    ops.AdaptiveAvgPool2d: _always("pool"),
    ops.Resize: _always("resize"),
    ops.Add: _always("elementwise"),
    ops.Subtract: _always("elementwise"),
    ops.Multiply: _always("elementwise"),
    ops.Concat: _always("elementwise"),
    ops.Slice: _always("elementwise"),
    ops.ChannelShuffle: _always("elementwise"),
    ops.ChannelsLast: _always("elementwise"),
    ops.ChannelsFirst: _always("elementwise"),
    ops.Flatten: None,
    ops.ToPixel: None,
    ops.Convert: _always("elementwise"),
    ops.ImageToTokens: _always("elementwise"),
    ops.TokensToImage: _always("elementwise"),
    ops.PrependTokens: _always("elementwise"),
    ops.AddPositions: _always("elementwise"),
    ops.Attention: _always("attention"),
    ops.WindowAttention: _always("attention"),
    ops.MergeTokens: _always("elementwise"),
    ops.TakeToken: None,
    ops.MeanTokens: _always("pool"),
}
"""The kind of every operator; None: it takes no time (it is fused with its neighbours or moves nothing)."""


class Shape(NamedTuple):
    """All properties that the latency of a node depends on."""

    kind: str
    n_inputs: int
    c_in: int
    c_out: int
    pixels_in: int
    pixels_out: int
    kernel: float
    """Geometric mean of height and width."""
    stride: float
    macs: int
    workspace: int
    """Number of values between the steps of the operator, for one image."""

    @property
    def traffic(self) -> int:
        """Number of values read and written for one image, without weights."""
        outside = self.n_inputs * self.c_in * self.pixels_in + self.c_out * self.pixels_out
        return outside + 2 * self.workspace

    @property
    def place(self) -> tuple[float, ...]:
        """Coordinates among the nodes of the same kind; one unit is about a doubling of the work."""
        return log2(self.c_in), log2(self.c_out), log2(self.pixels_out), self.kernel / 2, self.stride


def shapes(block: Block) -> list[Shape]:
    """The shapes of the nodes of a block that take time."""
    found = []
    for node in block.nodes:
        kind = KIND_OF[type(node.op)]
        if kind is not None:
            kernel, stride = _window(node.op)
            source = node.specs[0]
            found.append(
                Shape(
                    kind(node),
                    len(node.inputs),
                    source.channels,
                    node.output.channels,
                    source.pixels,
                    node.output.pixels,
                    kernel,
                    stride,
                    node.macs,
                    node.op.workspace(*node.specs),
                )
            )
    return found


def _window(op: ops.Operator) -> tuple[float, float]:
    """Kernel and stride of an operator, otherwise 1."""
    if isinstance(op, ops.Conv2d):
        return sqrt(op.kernel[0] * op.kernel[1]), sqrt(op.stride[0] * op.stride[1])
    if isinstance(op, ops.Pool2d):
        return float(op.kernel), float(op.stride)
    return 1.0, 1.0


@lru_cache(maxsize=1 << 16)
def terms(shape: Shape) -> Vector:
    """A launch, and traffic and MACs for one image in the columns of its kind, shape (len(TERMS),)."""
    row = np.zeros(len(TERMS))
    row[0] = 1
    row[TERMS.index(f"traffic.{shape.kind}")] = shape.traffic
    if shape.kind in COMPUTING:
        row[TERMS.index(f"macs.{shape.kind}")] = shape.macs
    return row
