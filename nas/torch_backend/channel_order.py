"""Sorting of inner channels by importance, so that a smaller expand ratio uses the most important ones.

A smaller expand ratio uses the first inner channels of a block. Before smaller ratios are trained,
progressive shrinking sorts the channels by the L1 norm of the weights that read them (OFA, Cai et al. 2020,
§3.3).
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
from search_spaces.operators import Conv2d


@torch.no_grad()
def sort_channels(supernet: Supernet, trained_expands: Collection[float] = ()) -> None:
    """Sort the inner channels of every block by importance, in place.

    Inner channels are the channels between two convolutions of a block, including the hidden channels of
    squeeze-and-excitation. The outputs of the largest subnet do not change. The state of an optimizer is not
    permuted, so create a new optimizer afterwards.

    Args:
        supernet: its weights are permuted.
        trained_expands: expand ratios that were trained already. Channels are sorted separately below and
            above the number of channels that such a ratio uses (at the largest width), so the outputs of
            its subnets do not change either.

    Raises:
        ValueError: the space has no convolutions, or has convolutions with groups of several channels, which
            cannot be sorted; or blocks with one of `trained_expands` have no inner channels.
    """
    space = supernet.space
    blocks = [block for slot in space.slots if slot.stage is not None for block in space.slot_blocks(slot)]
    convolutions = [node.op for block in blocks for node in block.nodes if isinstance(node.op, Conv2d)]
    if not convolutions:
        raise ValueError(f"channels of convolutions cannot be sorted: the space {space.name!r} has none")
    if any(1 < op.groups < op.channels for op in convolutions):
        raise ValueError(
            f"channels cannot be sorted by progressive shrinking: the space {space.name!r} has convolutions "
            f"with groups of several channels; use another sampler"
        )
    for slot in space.slots:
        if slot.stage is None:
            continue
        for group in inner_channels(largest_block(space, slot)):
            if not all(isinstance(node.op, Conv2d) for node in group.readers):
                continue  # channels of attention and MLPs
            reader = group.readers[-1]  # main path of the block, which reads after squeeze-and-excitation
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
    """Number of inner channels that `reader` reads at the expand ratio `expand`."""
    for group in inner_channels(largest_block(space, slot, expand)):
        for node in group.readers:
            if node.name == reader.name:
                return node.specs[0].channels
    raise ValueError(
        f"trained_expands must be ratios at which all blocks have inner channels, got {expand:g}, at which "
        f"{slot.name} has none"
    )


@dataclass(frozen=True)
class InnerChannels:
    """A group of inner channels that share one order, and the nodes whose weights depend on this order."""

    writers: Sequence[Node]
    """Nodes with weights that output these channels: a dense convolution, and nodes that process the output
    of this convolution channel by channel, such as a batch norm or a depthwise convolution."""
    readers: Sequence[Node]
    """Dense convolutions that read these channels."""


def inner_channels(block: Block) -> Iterator[InnerChannels]:
    """The groups of channels in a block that are neither its input nor its output."""
    groups = _channel_groups(block)
    outer_groups = {groups[BLOCK_INPUT], *(groups[index] for index in block.outputs)}
    for group in dict.fromkeys(groups.values()):
        writers = [node for i, node in enumerate(block.nodes) if node.parameters and groups[i] == group]
        readers = [node for node in block.nodes if node.mixes_channels and groups[node.inputs[0]] == group]
        if group not in outer_groups and readers:
            yield InnerChannels(writers, readers)


def _channel_groups(block: Block) -> dict[int, int]:
    """A group number for each input and node of the block; tensors of a group have one order of channels.

    A node that does not mix channels computes each channel from the same channel of its inputs, so it is in
    the group of its inputs.
    """
    groups = {-1 - i: -1 - i for i in range(len(block.inputs))}
    for i, node in enumerate(block.nodes):
        groups[i] = i
        if node.mixes_channels:
            continue
        merged = {groups[j] for j in node.inputs} | {i}
        groups = {j: min(merged) if group in merged else group for j, group in groups.items()}
    return groups


def largest_block(space: Space, slot: Slot, expand: float | None = None) -> Block:
    """The block of a slot with the largest option of every choice.

    If `expand` is given and the slot offers this ratio, it replaces the largest expand ratio.
    """

    def value_of(name: str) -> Value:
        choice = space.choices[name]
        return expand if choice.kind == "expand" and expand in choice.options else choice.options[-1]

    return slot.build(*map(value_of, slot.choices))


def descending(importance: Tensor, boundaries: Sequence[int] = ()) -> Tensor:
    """Indices that sort `importance` in descending order, shape (c,).

    Args:
        importance: shape (c,).
        boundaries: ascending indices; the sections between them are sorted separately.
    """
    ends = [0, *boundaries, len(importance)]
    parts = [a + importance[a:b].argsort(descending=True, stable=True) for a, b in pairwise(ends)]
    return torch.cat(parts)


def permute_outputs(operator: ElasticOperator, order: Tensor) -> None:
    """Permute the output channels of an operator's weights and statistics, in place."""
    for tensor in (*operator.parameters(recurse=False), *operator.buffers(recurse=False)):
        tensor.copy_(tensor[order])
