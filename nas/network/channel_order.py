"""Inner channels in the order of their importance, so that a smaller expand ratio keeps the best ones.

Elastic expand takes the first channels of a block. Before smaller ratios are trained, progressive shrinking
sorts them by the L1 norm of the weights that read them (OFA, Cai et al. 2020, §3.3).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from nas.network.elastic import ElasticLayer
from nas.network.supernet import Supernet
from search_spaces import BLOCK_INPUT, Block, LayerSpec, Slot, Space
from search_spaces.arch import Value


@torch.no_grad()
def sort_channels(supernet: Supernet, trained_expands: Collection[float] = ()) -> None:
    """Sort the inner channels of every block by importance, in place; the largest subnet computes the same.

    Inner channels are those between two convolutions of a block, the hidden ones of squeeze-and-excitation
    included. All that belongs to a channel moves with it, but for an optimizer's state: begin with a new one.

    Args:
        supernet: its weights are permuted.
        trained_expands: expand ratios that were trained already; no channel enters or leaves the first ones
            that such a ratio takes (at the largest width), so their subnets compute the same too.

    Raises:
        ValueError: blocks of such a ratio have no inner channels.
    """
    space = supernet.space
    for slot in space.slots:
        if slot.stage is None:
            continue
        for group in inner_channels(largest_block(space, slot)):
            reader = group.readers[-1]  # the block's own path: squeeze-and-excitation reads earlier
            kept = {_inputs_at(space, slot, reader, expand) for expand in trained_expands}
            importance = supernet.layer(reader).weight.abs().sum((0, 2, 3))
            order = descending(importance, sorted(kept))
            for layer in group.writers:
                permute_outputs(supernet.layer(layer), order)
            for layer in group.readers:
                weight = supernet.layer(layer).weight
                weight.copy_(weight[:, order])


def _inputs_at(space: Space, slot: Slot, reader: LayerSpec, expand: float) -> int:
    """Inner channels that a layer of the slot reads at an expand ratio."""
    for group in inner_channels(largest_block(space, slot, expand)):
        for layer in group.readers:
            if layer.name == reader.name:
                return layer.c_in
    raise ValueError(
        f"channels can only be sorted between ratios with inner channels: at {expand:g} {slot.name} has none"
    )


@dataclass(frozen=True)
class InnerChannels:
    """Layers of a block that must change together where the order of some inner channels does."""

    writers: Sequence[LayerSpec]
    """Their outputs are these channels, or, as for a depthwise convolution, are made of them one by one."""
    readers: Sequence[LayerSpec]
    """Dense convolutions that read these channels."""


def inner_channels(block: Block) -> Iterator[InnerChannels]:
    """The groups of channels in a block that are neither its input nor its output."""
    tied = _tied(block)
    outside = {tied[BLOCK_INPUT], tied[len(block) - 1]}
    for group in dict.fromkeys(tied.values()):
        writers = [layer for i, layer in enumerate(block) if layer.op == "conv" and tied[i] == group]
        readers = [layer for layer in block if _is_dense(layer) and tied[layer.inputs[0]] == group]
        if group not in outside and readers:
            yield InnerChannels(writers, readers)


def _tied(block: Block) -> dict[int, int]:
    """For the input of the block and each layer a number that is equal where channels must keep one order.

    All layers but dense ones compute each channel from the same one of each of their inputs.
    """
    tied = {BLOCK_INPUT: BLOCK_INPUT}
    for i, layer in enumerate(block):
        tied[i] = i
        if _is_dense(layer):
            continue
        joined = {tied[j] for j in layer.inputs} | {i}
        tied = {j: min(joined) if group in joined else group for j, group in tied.items()}
    return tied


def _is_dense(layer: LayerSpec) -> bool:
    """Whether every output channel reads every input channel."""
    return layer.op == "linear" or (layer.op == "conv" and layer.groups == 1)


def largest_block(space: Space, slot: Slot, expand: float | None = None) -> Block:
    """The block of a slot with its largest choices, but `expand` where the slot offers that ratio."""

    def chosen(name: str) -> Value:
        choice = space.choices[name]
        return expand if choice.kind == "expand" and expand in choice.options else choice.options[-1]

    return slot.build(*map(chosen, slot.choices))


def descending(importance: Tensor, boundaries: Sequence[int] = ()) -> Tensor:
    """Indices that sort `importance`, shape (c,), largest first, separately between rising `boundaries`."""
    ends = [0, *boundaries, len(importance)]
    parts = [a + importance[a:b].argsort(descending=True, stable=True) for a, b in pairwise(ends)]
    return torch.cat(parts)


def permute_outputs(layer: ElasticLayer, order: Tensor) -> None:
    """Put the output channels of a layer, its batch norm included, in another order, in place."""
    norm = layer.norm
    tensors: list[Tensor | None] = [layer.weight, layer.bias]
    if norm is not None:
        tensors += [norm.weight, norm.bias, norm.running_mean, norm.running_var]
    for tensor in tensors:
        if tensor is not None:
            tensor.copy_(tensor[order])
