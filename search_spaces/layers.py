"""The one description of a concrete network: a tuple of static layers in topological order.

MACs, parameters, activation sizes, latency keys, the static network and the ONNX graph all read this tuple;
nothing else knows what a block is made of.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

Op = Literal["conv", "linear", "add", "multiply", "avg_pool", "max_pool", "global_avg_pool", "resize"]
Activation = Literal["none", "relu", "relu6", "hard_swish", "swish", "sigmoid", "hard_sigmoid"]

BLOCK_INPUT = -1
"""Index by which a layer refers to the input of its block (or, in a whole network, to the image)."""


@dataclass(frozen=True, slots=True)
class LayerSpec:
    """One static layer: an operator with the batch norm and the activation that follow it.

    Feature maps are square: `size_in` and `size_out` are the side in pixels. A `conv` pads by `kernel // 2`,
    so a stride divides the size and rounds up. `linear` and everything after `global_avg_pool` has size 1.
    `resize` is bicubic (the convolution kernel with a = -0.75, pixel centres aligned, no antialiasing).
    """

    op: Op
    name: str
    """Role inside the block, such as `depthwise`; the same role holds the same weights in every subnet."""
    block: str
    """Name of the slot that the layer belongs to, such as `stages.0.blocks.1`."""
    inputs: tuple[int, ...]
    """Indices of earlier layers; `BLOCK_INPUT` is what enters the block (in a network: the image)."""
    c_in: int
    c_out: int
    size_in: int
    size_out: int
    kernel: int = 1
    stride: int = 1
    groups: int = 1
    padding: int = 0
    """Pixels that a pool adds on each side; an `avg_pool` counts them as zeros."""
    bias: bool = False
    norm_eps: float | None = None
    """Epsilon of the batch norm after the operator; None: no batch norm."""
    activation: Activation = "none"

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one image: convolutions and linear layers, as the OFA and AttentiveNAS
        papers count them (no batch norm, activation, pooling, addition or bias)."""
        if self.op == "conv":
            return self.c_in // self.groups * self.kernel**2 * self.c_out * self.size_out**2
        if self.op == "linear":
            return self.c_in * self.c_out
        return 0

    @property
    def params(self) -> int:
        """Learned numbers: weights, biases, and the scale and shift of the batch norm."""
        if self.op not in ("conv", "linear"):
            return 0
        weights = self.c_in // self.groups * self.kernel**2 * self.c_out
        return weights + self.c_out * self.bias + 2 * self.c_out * (self.norm_eps is not None)

    @property
    def ceil_mode(self) -> bool:
        """Whether the last window of a pool reaches over the edge; only what lies inside counts there."""
        return self.size_out > (self.size_in + 2 * self.padding - self.kernel) // self.stride + 1

    @property
    def activations(self) -> int:
        """Numbers in the output for one image."""
        return self.c_out * self.size_out**2


Block = tuple[LayerSpec, ...]
"""The layers of one block; `inputs` count inside the block. The last layer is the block's output."""


def stitch(blocks: Iterable[Block]) -> tuple[LayerSpec, ...]:
    """Chain blocks into one network: each block's input is the last layer of the block before it."""
    network: list[LayerSpec] = []
    for block in blocks:
        start = len(network)
        entry = start - 1  # BLOCK_INPUT for the first block
        network += [
            replace(layer, inputs=tuple(entry if i == BLOCK_INPUT else start + i for i in layer.inputs))
            for layer in block
        ]
    return tuple(network)


def split_blocks(network: Sequence[LayerSpec]) -> tuple[Block, ...]:
    """The inverse of `stitch`.

    Raises:
        ValueError: a layer reads from the middle of another block.
    """
    starts = [i for i, layer in enumerate(network) if i == 0 or layer.block != network[i - 1].block]
    blocks = []
    for start, end in zip(starts, [*starts[1:], len(network)], strict=True):
        local = []
        for layer in network[start:end]:
            if any(i < start - 1 for i in layer.inputs):
                raise ValueError(
                    f"layer {layer.name!r} of block {layer.block!r} must read from its own block or from "
                    f"the end of the block before it, got inputs={layer.inputs} with the block at {start}"
                )
            inputs = tuple(BLOCK_INPUT if i == start - 1 else i - start for i in layer.inputs)
            local.append(replace(layer, inputs=inputs))
        blocks.append(tuple(local))
    return tuple(blocks)


def block_key(block: Block) -> str:
    """Text that two blocks share exactly when they compute with equal shapes: the key of a latency table.

    One token a layer, in order; `<i,j` names the inputs where they are not simply the layer before; `@n` is
    the size of a feature map in pixels where it changes. Role names and the place in the network do not
    count.
    """
    tokens = [f"in{block[0].c_in}@{block[0].size_in}"]
    for i, layer in enumerate(block):
        words: list[str] = [layer.op]
        if layer.op in ("conv", "avg_pool", "max_pool"):
            words = [f"{layer.op}{layer.kernel}x{layer.kernel}"]
        if layer.op in ("conv", "linear"):
            words.append(f"{layer.c_in}>{layer.c_out}")
        words += [f"s{layer.stride}"] * (layer.stride > 1)
        words += [f"p{layer.padding}"] * (layer.padding > 0)
        if layer.op in ("conv", "linear"):
            words += [f"g{layer.groups}"] * (layer.groups > 1)
            words += ["bias"] * (layer.bias or layer.norm_eps is not None)
        words += [layer.activation] * (layer.activation != "none")
        words += [f"@{layer.size_out}"] * (layer.size_out != layer.size_in)
        if layer.inputs != (i - 1,):
            words.append("<" + ",".join("in" if j == BLOCK_INPUT else str(j) for j in layer.inputs))
        tokens.append(" ".join(words))
    return " | ".join(tokens)
