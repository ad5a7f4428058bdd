"""Size of the ONNX file of a subnet, without writing it.

Weights count to the byte; the text of the graph, node by node, was calibrated on written files of the shipped
spaces: it is within 20 bytes per layer of them in fp32, and INT8 sizes are within 0.5 %.
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
"""Of the model card that `nas export` stores in the file, class names aside."""
_CLASS_NAME_BYTES = 12

Kind = Literal["weighted", "plain", "free", "curved", "clipped"]
KINDS: Mapping[type[ops.Operator], Kind] = {
    ops.Conv2d: "weighted",
    ops.Linear: "weighted",
    ops.BatchNorm: "weighted",
    ops.LayerNorm: "weighted",
    ops.Relu: "free",  # needs no numbers of its own between integer layers
    ops.Relu6: "clipped",
    ops.HardSwish: "curved",
    ops.Swish: "curved",
    ops.Sigmoid: "curved",
    ops.HardSigmoid: "curved",
    ops.Gelu: "curved",
    ops.AvgPool2d: "plain",
    ops.MaxPool2d: "plain",
    ops.GlobalAvgPool: "plain",
    ops.Resize: "plain",
    ops.Add: "plain",
    ops.Multiply: "plain",
    ops.Concat: "plain",
    ops.Slice: "plain",
    ops.Flatten: "free",
}
"""How the text of every operator counts, see `FileFormat`."""


@dataclass(frozen=True)
class FileFormat:
    """What each part of a network takes in a file, in bytes."""

    weight: int
    """A weight of a convolution or linear layer."""
    biased_channel: int
    """An output channel of such a layer with bias or batch norm, which is folded into the bias."""
    channel: int
    """An output channel of such a layer without either."""
    weighted_node: int
    """The text of such a layer."""
    other_node: int
    """The text of any other layer, activations aside."""
    curved_activation: int
    """The text of an activation other than ReLU and ReLU6."""
    clipped_activation: int
    """The text of a ReLU6, with its two limits."""

    def of_blocks(self, blocks: Sequence[Block]) -> int:
        """Bytes of the graph of some blocks."""
        return sum(map(self._of_block, blocks))

    def of_file(self, blocks: Sequence[Block]) -> int:
        """Bytes of the file of a whole network, its card included."""
        return self.of_blocks(blocks) + _card_bytes(blocks[-1].output_specs[0].channels)

    def of(self, space: Space) -> Callable[[Genomes], NDArray[np.float64]]:
        """The size of the file of each genome, shape (n,)."""
        table, card = BlockTable(space, self._of_block), _card_bytes(space.config.outputs)
        return lambda genomes: table(genomes) + card

    def _of_block(self, block: Block) -> int:
        deployed, _ = fold_batch_norms(block)
        return sum(map(self._of_node, deployed.nodes))

    def _of_node(self, node: Node) -> int:
        match KINDS[type(node.op)]:
            case "weighted":
                weights, *rest = node.parameters.values()
                channels = weights.shape[0] * (self.biased_channel if rest else self.channel)
                return self.weight * weights.numel + channels + self.weighted_node
            case "plain":
                return self.other_node
            case "curved":
                return self.curved_activation
            case "clipped":
                return self.clipped_activation
            case "free":
                return 0


def _card_bytes(classes: int) -> int:
    return CARD_BYTES + _CLASS_NAME_BYTES * classes


FLOAT32 = FileFormat(4, 4, 0, weighted_node=283, other_node=408, curved_activation=14, clipped_activation=214)
INT8 = FileFormat(1, 17, 5, weighted_node=1374, other_node=1521, curved_activation=704, clipped_activation=0)
"""QDQ, a scale per channel; biases are 32-bit integers with scales of their own."""
