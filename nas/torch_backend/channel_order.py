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

from nas.torch_backend.elastic import ElasticOperator
from nas.torch_backend.supernet import Supernet
from search_spaces import BLOCK_INPUT, Block, Node, Slot, Space
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
            boundaries = {_inputs_at(space, slot, reader, expand) for expand in trained_expands}
            importance = reader_weight(supernet, reader).abs().sum((0, 2, 3))
            order = descending(importance, sorted(boundaries))
            for node in group.writers:
                permute_outputs(supernet.operator(node), order)
            for node in group.readers:
                weight = reader_weight(supernet, node)
                weight.copy_(weight[:, order])


def reader_weight(supernet: Supernet, node: Node) -> Tensor:
    """The weight of the convolution that reads a group of channels, shape (c_out, c_in, height, width)."""
    return supernet.operator(node).get_parameter("weight")


def _inputs_at(space: Space, slot: Slot, reader: Node, expand: float) -> int:
    """Inner channels that a node of the slot reads at an expand ratio."""
    for group in inner_channels(largest_block(space, slot, expand)):
        for node in group.readers:
            if node.name == reader.name:
                return node.specs[0].channels
    raise ValueError(
        f"channels can only be sorted between ratios with inner channels: at {expand:g} {slot.name} has none"
    )


@dataclass(frozen=True)
class InnerChannels:
    """Nodes of a block that must change together where the order of some inner channels does."""

    writers: Sequence[Node]
    """Their outputs are these channels: a dense convolution, and all with weights that follow it channel by
    channel, such as a batch norm or a depthwise convolution."""
    readers: Sequence[Node]
    """Dense convolutions that read these channels."""


def inner_channels(block: Block) -> Iterator[InnerChannels]:
    """The groups of channels in a block that are neither its input nor its output."""
    tied = _tied(block)
    outside = {tied[BLOCK_INPUT], *(tied[index] for index in block.outputs)}
    for group in dict.fromkeys(tied.values()):
        writers = [node for i, node in enumerate(block.nodes) if node.parameters and tied[i] == group]
        readers = [node for node in block.nodes if node.mixes_channels and tied[node.inputs[0]] == group]
        if group not in outside and readers:
            yield InnerChannels(writers, readers)


def _tied(block: Block) -> dict[int, int]:
    """For each input of the block and each node a number, equal where channels must keep one order.

    All nodes but those that mix channels compute each channel from the same one of each of their inputs.
    """
    tied = {-1 - i: -1 - i for i in range(len(block.inputs))}
    for i, node in enumerate(block.nodes):
        tied[i] = i
        if node.mixes_channels:
            continue
        joined = {tied[j] for j in node.inputs} | {i}
        tied = {j: min(joined) if group in joined else group for j, group in tied.items()}
    return tied


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


def permute_outputs(operator: ElasticOperator, order: Tensor) -> None:
    """Put the output channels of an operator's weights and statistics in another order, in place."""
    for tensor in (*operator.parameters(recurse=False), *operator.buffers(recurse=False)):
        tensor.copy_(tensor[order])
