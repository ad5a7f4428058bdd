"""What each operator of a `LayerSpec` computes in torch; shared by the supernet and by static subnets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from search_spaces import BLOCK_INPUT, Block, LayerSpec

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda x: x,
    "relu": F.relu,
    "relu6": F.relu6,
    "hard_swish": F.hardswish,
    "swish": F.silu,
    "sigmoid": F.sigmoid,
    "hard_sigmoid": F.hardsigmoid,
}

Weighted = Callable[[LayerSpec, Tensor], Tensor]
"""Computes a layer that has weights: (layer, its input) -> its output before the activation."""


def _avg_pool(layer: LayerSpec, x: Tensor) -> Tensor:
    return F.avg_pool2d(x, layer.kernel, layer.stride, layer.padding, layer.ceil_mode)


def _max_pool(layer: LayerSpec, x: Tensor) -> Tensor:
    return F.max_pool2d(x, layer.kernel, layer.stride, layer.padding, ceil_mode=layer.ceil_mode)


def _resize(layer: LayerSpec, x: Tensor) -> Tensor:
    size = (layer.size_out, layer.size_out)
    return x if x.shape[2:] == size else F.interpolate(x, size, mode="bicubic", align_corners=False)


OPERATORS: dict[str, Callable[..., Tensor]] = {  # those without weights; maps have shape (n, c, size, size)
    "add": lambda layer, a, b: a + b,
    "multiply": lambda layer, a, b: a * b,
    "avg_pool": _avg_pool,
    "max_pool": _max_pool,
    "global_avg_pool": lambda layer, x: x.mean((2, 3), keepdim=True),
    "resize": _resize,
}

AS_PUBLISHED = {
    **OPERATORS,
    "global_avg_pool": lambda layer, x: x.mean(3, keepdim=True).mean(2, keepdim=True),
}
"""The same, rounded as the published supernets' own code rounds: slower, but with unlucky weights another
order of the sums moves logits by a percent."""


def run_block(
    block: Block, x: Tensor, weighted: Weighted, operators: Mapping[str, Callable[..., Tensor]] = OPERATORS
) -> Tensor:
    """Compute one block.

    Args:
        block: its layers.
        x: what enters the block, shape (n, c_in, size, size).
        weighted: computes convolutions and linear layers with their batch norm.
        operators: compute all other layers.

    Returns:
        output of the last layer: (n, c_out, size, size), or (n, c_out) after a linear layer.
    """
    outputs: list[Tensor] = []
    for layer in block:
        inputs = [x if i == BLOCK_INPUT else outputs[i] for i in layer.inputs]
        has_weights = layer.op in ("conv", "linear")
        out = weighted(layer, inputs[0]) if has_weights else operators[layer.op](layer, *inputs)
        outputs.append(ACTIVATIONS[layer.activation](out))
    return outputs[-1]


def run_network(
    blocks: Iterable[Block],
    x: Tensor,
    weighted: Weighted,
    *,
    fast: bool,
    noise: Callable[[Weighted, Block], Weighted] | None = None,
) -> Tensor:
    """Compute the blocks one after the other; arguments as `run_block`.

    Args:
        blocks: of a network.
        x: images.
        weighted: computes convolutions and linear layers with their batch norm.
        fast: in the memory layout and with the sums that are fastest; else in those of the code that
            published supernets come from, so that logits are the same but for the last bits.
        noise: `weighted` with noise to train with, for each block.
    """
    operators = OPERATORS if fast else AS_PUBLISHED
    for block in blocks:
        x = run_block(block, x, noise(weighted, block) if noise else weighted, operators)
        if fast:
            x = faster_layout(x)
    return x


def faster_layout(x: Tensor) -> Tensor:
    """`x` in channels-last memory where that means anything; 1.4 to 2.5 times faster for MBConv on CPUs.

    With one channel torch takes both layouts for the same and keeps the slow one, so the input image is left
    alone and the output of the first block is converted.
    """
    if x.ndim == 4 and x.shape[1] > 1:
        return x.contiguous(memory_format=torch.channels_last)
    return x
