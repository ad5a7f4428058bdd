"""Size of the ONNX file of a subnet, without writing it.

Weights count to the byte; the text of the graph, node by node, was calibrated on written files of the shipped
spaces: it is within 20 bytes per layer of them in fp32, and INT8 sizes are within 0.5 %.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from search_spaces import Block, BlockTable, Genomes, LayerSpec, Space

CARD_BYTES = 1700
"""Of the model card that `nas export` stores in the file, class names aside."""
_CLASS_NAME_BYTES = 12
_FOLDED = ("none", "relu", "relu6")
"""Activations that need no numbers of their own between integer layers."""
_CLIPPED = "relu6"


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
    """The text of any other layer."""
    curved_activation: int
    """The text of an activation other than ReLU and ReLU6."""
    clipped_activation: int
    """The text of a ReLU6, with its two limits."""

    def of_layers(self, layers: Sequence[LayerSpec]) -> int:
        """Bytes of the layers of a block or network."""
        return sum(self._of_layer(layer) for layer in layers)

    def of_file(self, layers: Sequence[LayerSpec]) -> int:
        """Bytes of the file of a whole network, its card included."""
        return self.of_layers(layers) + _card_bytes(layers[-1].c_out)

    def of(self, space: Space) -> Callable[[Genomes], NDArray[np.float64]]:
        """The size of the file of each genome, shape (n,)."""
        table, card = BlockTable(space, self._of_block), _card_bytes(space.config.classes)
        return lambda genomes: table(genomes) + card

    def _of_block(self, block: Block) -> float:
        return float(self.of_layers(block))

    def _of_layer(self, layer: LayerSpec) -> int:
        activation = 0 if layer.activation in _FOLDED else self.curved_activation
        if layer.activation == _CLIPPED:
            activation = self.clipped_activation
        if layer.op not in ("conv", "linear"):
            return self.other_node + activation
        weights = layer.c_in // layer.groups * layer.kernel**2 * layer.c_out
        biased = layer.bias or layer.norm_eps is not None
        channels = layer.c_out * (self.biased_channel if biased else self.channel)
        return self.weight * weights + channels + self.weighted_node + activation


def _card_bytes(classes: int) -> int:
    return CARD_BYTES + _CLASS_NAME_BYTES * classes


FLOAT32 = FileFormat(4, 4, 0, weighted_node=283, other_node=408, curved_activation=14, clipped_activation=214)
INT8 = FileFormat(1, 17, 5, weighted_node=1374, other_node=1521, curved_activation=704, clipped_activation=0)
"""QDQ, a scale per channel; biases are 32-bit integers with scales of their own."""
