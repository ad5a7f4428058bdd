"""Prediction of the size of a subnet's ONNX file, without writing the file.

The size of the weights is exact. The size of the graph is a sum over nodes, whose terms were fitted to files
of the shipped spaces. The error is at most 20 bytes per layer for fp32 and at most 0.5 % for INT8, also in
networks of mixed precision.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from search_spaces import Block, BlockTable, Genomes, Node, Space
from search_spaces import operators as ops
from search_spaces.graph import fold_batch_norms
from search_spaces.tensors import FP32, INT8, Precision, TensorSpec

CARD_BYTES = 1700
"""Size of the model card that `nas export` stores in the file, without class names."""
_OUTPUT_NAME_BYTES = 12

Kind = Literal[
    "weighted", "plain", "free", "curved", "clipped",
    "token_linear", "token_add", "norm", "scale", "gelu", "to_tokens", "to_image", "prepend", "positions",
    "pool_tokens", "attention", "relative_tables", "relative_bias", "talking_heads", "token_norm",
    "separate_attention", "group_slice", "token_product", "token_swish", "convert", "window_attention",
    "merge_tokens", "group_norm", "gelu_tanh", "mish",
]  # fmt: skip
"""Parts of a network whose nodes take about the same number of bytes. `curved` are activations other than
ReLU and ReLU6, `clipped` is ReLU6, `plain` are other nodes without weights, `free` needs no node."""
KINDS: Mapping[type[ops.Operator], Kind] = {
    ops.Conv2d: "weighted",
    ops.Linear: "weighted",
    ops.BatchNorm: "norm",
    ops.LayerNorm: "norm",
    ops.GroupNorm: "group_norm",
    ops.Scale: "scale",
    ops.Relu: "free",  # needs no scales between quantized layers
    ops.Relu6: "clipped",
    ops.HardSwish: "curved",
    ops.Swish: "curved",
    ops.Sigmoid: "curved",
    ops.HardSigmoid: "curved",
    ops.Gelu: "gelu",
    ops.GeluTanh: "gelu_tanh",
    ops.Mish: "mish",
    ops.LeakyRelu: "curved",
    ops.PRelu: "scale",
    ops.Elu: "curved",
    ops.Tanh: "curved",
    ops.Arithmetic: "scale",
    ops.ChannelArithmetic: "scale",
    ops.AvgPool2d: "plain",
    ops.MaxPool2d: "plain",
    ops.GlobalAvgPool: "plain",
    ops.GlobalMaxPool: "plain",
    ops.AdaptiveAvgPool2d: "plain",
    ops.Resize: "plain",
    ops.Add: "plain",
    ops.Subtract: "plain",
    ops.Multiply: "plain",
    ops.Concat: "plain",
    ops.Slice: "plain",
    ops.ChannelShuffle: "plain",
    ops.ChannelsLast: "plain",
    ops.ChannelsFirst: "plain",
    ops.Flatten: "free",
    ops.ToPixel: "plain",
    ops.Convert: "convert",
    ops.ImageToTokens: "to_tokens",
    ops.TokensToImage: "to_image",
    ops.PrependTokens: "prepend",
    ops.AddPositions: "positions",
    ops.Attention: "attention",
    ops.WindowAttention: "window_attention",
    ops.MergeTokens: "merge_tokens",
    ops.TakeToken: "pool_tokens",
    ops.MeanTokens: "pool_tokens",
}
"""The kind of every operator; `ON_TOKENS` and `_kind` have exceptions."""
ON_TOKENS: Mapping[type[ops.Operator], Kind] = {
    ops.Linear: "token_linear",
    ops.Add: "token_add",
    ops.Swish: "token_swish",
}


class Part(NamedTuple):
    """Size of a node in a file, in bytes."""

    node: int
    """The node itself."""
    weight: int = 0
    """Per weight."""
    channel: int = 0
    """Per output channel."""
    bias: int = 0
    """Per output channel of a layer with a bias, in addition; batch norms are folded into biases."""


@dataclass(frozen=True)
class FileFormat:
    """Sizes of the parts of a network in a file."""

    parts: Mapping[Precision, Mapping[Kind, Part]]
    """By the precision of the node in its block."""

    def of_blocks(self, blocks: Sequence[Block]) -> int:
        """Size of the graph of `blocks` in bytes."""
        first = _first_with_distances(blocks)
        return sum(self._of_block(block, first) for block in blocks)

    def of_file(self, blocks: Sequence[Block]) -> int:
        """Size of the file of a whole network in bytes, including the model card."""
        return self.of_blocks(blocks) + _card_bytes(blocks[-1].output_specs[0].channels)

    def of(self, space: Space) -> Callable[[Genomes], NDArray[np.float64]]:
        """A function of genomes (n, n_genes) that returns the sizes of their files in bytes, shape (n,)."""
        first = _first_with_distances(space.blocks(space.smallest))  # all subnets have these blocks
        table, card = (
            BlockTable(space, partial(self._of_block, first=first)),
            _card_bytes(space.config.outputs),
        )
        return lambda genomes: table(genomes) + card

    def _of_block(self, block: Block, first: str | None) -> int:
        """Size of a block in bytes; constants that all blocks share are counted in the block named
        `first`."""
        deployed, _ = fold_batch_norms(block)
        shared = _distance_bytes(block) if block.name == first else 0
        return sum(map(self._of_node, deployed.nodes)) + shared

    def _of_node(self, node: Node) -> int:
        parts = self.parts[node.output.precision]
        part = parts[_kind(node)]
        weights = {name: parameter.numel for name, parameter in node.parameters.items()}
        size = part.node + part.channel * node.output.channels
        if part.bias:
            size += part.bias * weights.pop("bias", 0)
        if isinstance(node.op, ops.Attention):
            size += parts["talking_heads"].node * node.op.talking_heads
            if node.op.relative:
                size += parts[_RELATIVE[type(node.op.relative)]].node
            if isinstance(node.op.relative, ops.RelativeBias):  # written for each pair of tokens
                weights["bias"] = node.op.heads * node.output.pixels**2
        if isinstance(node.op, ops.WindowAttention):
            weights = {"bias": _window_constants(node.op, node.specs[0])}
        return size + part.weight * sum(weights.values())


_RELATIVE: Mapping[type[ops.RelativeTables | ops.RelativeBias], Kind] = {
    ops.RelativeTables: "relative_tables",
    ops.RelativeBias: "relative_bias",
}


def _window_constants(op: ops.WindowAttention, grid: TensorSpec) -> int:
    """Number of constants of windowed attention: one per pair of tokens and head, and if windows are shifted,
    one per pair of tokens and window."""
    pairs = math.prod(op.window) ** 2
    windows = grid.pixels // math.prod(op.window)
    return pairs * (op.heads + windows * any(op.shifts(grid)))


def _kind(node: Node) -> Kind:
    if isinstance(node.op, ops.Linear) and node.output.layout == "tokens" and not node.op.bias:
        return "token_product"
    if isinstance(node.op, ops.LayerNorm) and node.op.over_tokens:
        return "token_norm"
    if isinstance(node.op, ops.Attention) and len(node.inputs) > 1:
        return "separate_attention"
    if isinstance(node.op, ops.Slice) and node.op.groups > 1:
        return "group_slice"
    kinds = ON_TOKENS if node.output.layout == "tokens" else {}
    return kinds.get(type(node.op), KINDS[type(node.op)])


def _first_with_distances(blocks: Sequence[Block]) -> str | None:
    """Name of the first block whose attention needs the distances of tokens, which the file contains once."""
    return next((block.name for block in blocks if _distance_bytes(block)), None)


def _distance_bytes(block: Block) -> int:
    """Size of the constants with the distances of tokens in bytes: two numbers for each token and
    position."""
    total = 0
    for node in block.nodes:
        if isinstance(node.op, ops.Attention) and isinstance(node.op.relative, ops.RelativeTables):
            positions = sum(node.op.relative.grid) + 2 * bool(node.op.relative.prefix)
            total += 8 * node.output.pixels * positions + 260
    return total


def _card_bytes(outputs: int) -> int:
    return CARD_BYTES + _OUTPUT_NAME_BYTES * outputs


_FLOATS: Mapping[Kind, Part] = {
    "free": Part(0),
    "token_add": Part(147),
    "norm": Part(330, weight=4),
    "scale": Part(195, weight=4),
    "gelu": Part(917),
    "to_tokens": Part(250),
    "token_swish": Part(320),
    "prepend": Part(418, weight=4),
    "positions": Part(109, weight=4),
    "pool_tokens": Part(129),
    "attention": Part(2577, weight=4),
    "separate_attention": Part(2278, weight=4),
    "talking_heads": Part(756),
    "token_norm": Part(746, weight=4),
    "group_slice": Part(982),
    "to_image": Part(376),
    "relative_tables": Part(5635),
    "relative_bias": Part(235),
    "window_attention": Part(2600, weight=4),
    "merge_tokens": Part(600),
    "group_norm": Part(1400, weight=4),
    "gelu_tanh": Part(1750),
    "mish": Part(330),
}
"""Parts that are in floating point in all formats."""
_FLOAT_PARTS: Mapping[Kind, Part] = {
    **_FLOATS,
    "weighted": Part(283, weight=4, bias=4),
    "plain": Part(408),
    "curved": Part(14),
    "clipped": Part(214),
    "token_linear": Part(424, weight=4, bias=4),
    "token_product": Part(195, weight=4),
    "convert": Part(380, channel=5),
}
_INT8_PARTS: Mapping[Kind, Part] = {
    **_FLOATS,
    "weighted": Part(1374, weight=1, channel=5, bias=12),
    "plain": Part(1521),
    "curved": Part(704),
    "clipped": Part(0),
    "token_linear": Part(1390, weight=1, channel=4, bias=4),
    "token_product": Part(1161, weight=1, channel=4),
    "convert": Part(180),
}
"""Weights have a scale per channel. On images and vectors in the QDQ format, biases are 32-bit integers with
their own scales."""
BY_PRECISION = FileFormat({FP32: _FLOAT_PARTS, INT8: _INT8_PARTS})
"""Each block in its own precision; float32 if the space has no choices of precision."""
ALL_INT8 = FileFormat({FP32: _INT8_PARTS, INT8: _INT8_PARTS})
"""The whole network in INT8."""
