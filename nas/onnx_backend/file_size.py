"""Prediction of the size of a subnet's ONNX file, without writing it.

The size of the weights is exact. The size of the graph is a sum over nodes whose terms were fitted to files
of the shipped spaces. The error of fp32 sizes is at most 20 bytes per layer, that of INT8 sizes at most
0.5 %.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from search_spaces import Block, BlockTable, Genomes, Node, Space
from search_spaces import operators as ops
from search_spaces.graph import fold_batch_norms

CARD_BYTES = 1700
"""Size of the model card that `nas export` stores in the file, without class names."""
_OUTPUT_NAME_BYTES = 12

Kind = Literal["weighted", "plain", "free", "curved", "clipped"]
KINDS: Mapping[type[ops.Operator], Kind] = {
    ops.Conv2d: "weighted",
    ops.Linear: "weighted",
    ops.BatchNorm: "weighted",
    ops.LayerNorm: "weighted",
    ops.Scale: "weighted",
    ops.Relu: "free",  # needs no scales between quantized layers
    ops.Relu6: "clipped",
    ops.HardSwish: "curved",
    ops.Swish: "curved",
    ops.Sigmoid: "curved",
    ops.HardSigmoid: "curved",
    ops.Gelu: "curved",
    ops.LeakyRelu: "curved",
    ops.Elu: "curved",
    ops.Tanh: "curved",
    ops.AvgPool2d: "plain",
    ops.MaxPool2d: "plain",
    ops.GlobalAvgPool: "plain",
    ops.AdaptiveAvgPool2d: "plain",
    ops.Resize: "plain",
    ops.Add: "plain",
    ops.Multiply: "plain",
    ops.Concat: "plain",
    ops.Slice: "plain",
    ops.ChannelShuffle: "plain",
    ops.ChannelsLast: "plain",
    ops.ChannelsFirst: "plain",
    ops.Flatten: "free",
    ops.ImageToTokens: "plain",
    ops.PrependTokens: "weighted",
    ops.AddPositions: "weighted",
    ops.Attention: "plain",
    ops.TakeToken: "plain",
    ops.MeanTokens: "plain",
}
"""How the node of every operator is counted, see `FileFormat`."""


@dataclass(frozen=True)
class FileFormat:
    """Sizes of the parts of a network in a file, in bytes."""

    weight: int
    """A weight of a layer with weights."""
    biased_channel: int
    """An output channel of a layer with weights and a bias; batch norms are folded into biases."""
    channel: int
    """An output channel of a layer with weights and no bias."""
    weighted_node: int
    """The node of a layer with weights."""
    other_node: int
    """The node of a layer without weights that is not an activation."""
    curved_activation: int
    """The node of an activation other than ReLU and ReLU6."""
    clipped_activation: int
    """The node of a ReLU6, with its two limits."""

    def of_blocks(self, blocks: Sequence[Block]) -> int:
        """Size of the graph of `blocks` in bytes."""
        return sum(map(self._of_block, blocks))

    def of_file(self, blocks: Sequence[Block]) -> int:
        """Size of the file of a whole network in bytes, including the model card."""
        return self.of_blocks(blocks) + _card_bytes(blocks[-1].output_specs[0].channels)

    def of(self, space: Space) -> Callable[[Genomes], NDArray[np.float64]]:
        """A function of genomes (n, n_genes) that returns the sizes of their files in bytes, shape (n,)."""
        table, card = BlockTable(space, self._of_block), _card_bytes(space.config.outputs)
        return lambda genomes: table(genomes) + card

    def _of_block(self, block: Block) -> int:
        deployed, _ = fold_batch_norms(block)
        return sum(map(self._of_node, deployed.nodes))

    def _of_node(self, node: Node) -> int:
        match KINDS[type(node.op)]:
            case "weighted":
                weights, *biases = node.parameters.values()
                channels = weights.shape[0] * (self.biased_channel if biases else self.channel)
                return self.weight * weights.numel + channels + self.weighted_node
            case "plain":
                return self.other_node
            case "curved":
                return self.curved_activation
            case "clipped":
                return self.clipped_activation
            case "free":
                return 0


def _card_bytes(outputs: int) -> int:
    return CARD_BYTES + _OUTPUT_NAME_BYTES * outputs


FLOAT32 = FileFormat(4, 4, 0, weighted_node=283, other_node=408, curved_activation=14, clipped_activation=214)
INT8 = FileFormat(1, 17, 5, weighted_node=1374, other_node=1521, curved_activation=704, clipped_activation=0)
"""QDQ format with a scale per channel. Biases are 32-bit integers with their own scales."""
