"""Channels of different layers that must be dropped together, and their order by importance.

A residual sum, a batch norm or a depthwise convolution couples the channels of its inputs and outputs. A
smaller width uses the first channels, so the most important ones come first.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from nas.torch_backend.channel_order import descending, permute_outputs
from nas.torch_backend.functional import run_network
from nas.torch_backend.supernet import Supernet
from nas.torch_backend.unit_order import Batches, Loss
from search_spaces import BLOCK_INPUT, Node, Space
from search_spaces.operators import (
    Add,
    AddPositions,
    Attention,
    ChannelShuffle,
    Concat,
    Conv2d,
    Linear,
    Operator,
    PrependTokens,
    Slice,
)

READERS = (Conv2d, Linear)
"""Operators that read channels and write others."""
KEPT: Mapping[type[Operator], str] = {
    Concat: "read by a concatenation",
    Slice: "split into parts",
    ChannelShuffle: "shuffled",
    PrependTokens: "those of learned tokens",
    AddPositions: "those of learned positions",
    Attention: "heads of attention",
}
"""Operators that keep the number of their channels, and why: their output channels are not those of their
input one by one, or their weights have them in another dimension than the first."""


@dataclass
class Channels:
    """Coupled channels."""

    members: list[int] = field(default_factory=list)
    """Nodes whose outputs have these channels."""
    writers: list[int] = field(default_factory=list)
    """Nodes that set their number."""
    readers: list[int] = field(default_factory=list)
    """Nodes that read all of them and write others."""
    unit: int = 1
    """Size of the groups of a grouped convolution: only whole groups can be dropped."""
    fixed: str = ""
    """Why their number cannot change; empty: it can."""

    def has_sum(self, nodes: Sequence[Node]) -> bool:
        """Whether a sum has these channels: they are those of a residual stream."""
        return any(isinstance(nodes[i].op, Add) for i in self.members)


def coupled_channels(nodes: Sequence[Node]) -> list[Channels]:
    """The groups of coupled channels of a network, by union-find; each node's output belongs to one."""
    parent = {i: i for i in range(BLOCK_INPUT, len(nodes))}
    fixed: dict[int, str] = {}
    units: dict[int, int] = {}

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for i, node in enumerate(nodes):
        if _is_dense(node):
            continue
        if isinstance(node.op, Conv2d):
            if node.op.channels != node.specs[0].channels:
                fixed |= dict.fromkeys((*node.inputs, i), "changed by a grouped convolution")
                continue
            units[i] = node.op.channels // node.op.groups
        elif type(node.op) in KEPT:
            fixed |= dict.fromkeys((*node.inputs, i), KEPT[type(node.op)])
            continue
        for j in node.inputs:
            parent[root(j)] = root(i)
    fixed |= {BLOCK_INPUT: "channels of the images", len(nodes) - 1: "outputs of the network"}
    groups: dict[int, Channels] = {}
    for i in range(BLOCK_INPUT, len(nodes)):
        group = groups.setdefault(root(i), Channels())
        group.fixed = group.fixed or fixed.get(i, "")
        group.unit = math.lcm(group.unit, units.get(i, 1))
        if i != BLOCK_INPUT:
            group.members.append(i)
            if _is_dense(nodes[i]):
                group.writers.append(i)
    for i, node in enumerate(nodes):
        if _is_dense(node):
            groups[root(node.inputs[0])].readers.append(i)
    return list(groups.values())


def _is_dense(node: Node) -> bool:
    return isinstance(node.op, READERS) and node.mixes_channels


def elastic_channels(space: Space) -> list[Channels]:
    """The coupled channels of the largest subnet whose number some choice changes."""
    nodes = space.network(space.largest).nodes
    smallest: dict[str, int] = {}
    for slot in space.slots:
        for node in (node for block in space.slot_blocks(slot) for node in block.nodes):
            channels = node.output.channels
            smallest[node.path] = min(smallest.get(node.path, channels), channels)
    return [
        group
        for group in coupled_channels(nodes)
        if not group.fixed
        and group.readers
        and any(smallest[nodes[i].path] < nodes[i].output.channels for i in group.writers)
    ]


@torch.no_grad()
def norm_importance(supernet: Supernet, groups: Sequence[Channels]) -> list[Tensor]:
    """Importance of the channels of each group from the weights, shape (channels,).

    It is the L2 norm of the weights that read a channel, times the factor of the last batch norm or, without
    one, the L2 norm of the weights that write it.
    """
    nodes = supernet.space.network(supernet.space.largest).nodes
    result = []
    for group in groups:
        read = torch.stack(
            [_by_channel(supernet, nodes, i, group).square().sum((0, 2)) for i in group.readers]
        )
        norms = [nodes[i] for i in group.members if "running_var" in nodes[i].parameters]
        if norms:
            factor = supernet.operator(norms[-1]).get_parameter("weight").abs()
        else:
            written = [supernet.operator(nodes[i]).get_parameter("weight") for i in group.writers]
            factor = torch.stack([weight.flatten(1).square().sum(1) for weight in written]).sum(0).sqrt()
        result.append(read.sum(0).sqrt() * factor)
    return result


def taylor_importance(
    supernet: Supernet, groups: Sequence[Channels], batches: Batches, loss: Loss
) -> list[Tensor]:
    """Absolute change of each image's loss if a channel were removed, to first order, summed over the images.

    The change is the derivative of the loss of the largest subnet by a factor on the channel.

    Returns:
        as `norm_importance`.
    """
    space = supernet.space
    nodes = space.network(space.largest).nodes
    group_of = {nodes[i].path: g for g, group in enumerate(groups) for i in group.readers}
    totals = [torch.zeros(_size(nodes, group)) for group in groups]
    for x, targets in batches:
        masks = [x.new_ones(len(x), _size(nodes, group)).requires_grad_() for group in groups]

        def compute(node: Node, inputs: Sequence[Tensor], masks: Sequence[Tensor] = masks) -> Tensor:
            if node.path in group_of:
                inputs = [_masked(inputs[0], masks[group_of[node.path]], node)]
            result: Tensor = supernet.operator(node)(node, inputs)
            return result

        total = loss(run_network(space.blocks(space.largest), x, compute, fast=True), targets) * len(x)
        for sums, gradient in zip(totals, torch.autograd.grad(total, masks), strict=True):
            sums += gradient.abs().sum(0).to(sums)
    return totals


def _size(nodes: Sequence[Node], group: Channels) -> int:
    return nodes[group.writers[0]].output.channels


def _masked(x: Tensor, mask: Tensor, node: Node) -> Tensor:
    """The input of a node times a factor for each image and channel."""
    spec = node.specs[0]
    if spec.layout == "image":
        return x * mask[:, :, None, None]
    if spec.layout == "vector":
        return x * mask.repeat_interleave(spec.channels // mask.shape[1], 1)
    return x * mask.reshape(len(mask), *(1,) * len(spec.size), -1)


@torch.no_grad()
def sort_channels_by(supernet: Supernet, groups: Sequence[Channels], importance: Sequence[Tensor]) -> None:
    """Sort coupled channels by importance, in place; grouped convolutions keep their groups.

    The outputs of the largest subnet do not change, except for rounding.

    Args:
        supernet: its weights are permuted.
        groups: as returned by `elastic_channels`.
        importance: of `norm_importance` or `taylor_importance`.
    """
    nodes = supernet.space.network(supernet.space.largest).nodes
    for group, values in zip(groups, importance, strict=True):
        units = descending(values.reshape(-1, group.unit).sum(1))
        order = (units[:, None] * group.unit + torch.arange(group.unit).to(units)).flatten()
        for i in group.members:
            if nodes[i].parameters:
                permute_outputs(supernet.operator(nodes[i]), order)
        for i in group.readers:
            by_channel = _by_channel(supernet, nodes, i, group)
            weight = supernet.operator(nodes[i]).get_parameter("weight")
            weight.copy_(by_channel[:, order].reshape(weight.shape))


def _by_channel(supernet: Supernet, nodes: Sequence[Node], reader: int, group: Channels) -> Tensor:
    """The weight of a reader, shape (c_out, channels, rest): several per channel of a flattened map."""
    weight = supernet.operator(nodes[reader]).get_parameter("weight")
    return weight.reshape(len(weight), _size(nodes, group), -1)
