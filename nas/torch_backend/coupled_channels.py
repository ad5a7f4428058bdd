"""Channels of different layers that must be dropped together.

A residual sum, a batch norm or a depthwise convolution couples the channels of its inputs and outputs. Groups
of a convolution and attention heads can only be dropped as a whole.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from search_spaces import BLOCK_INPUT, Node, Space
from search_spaces.operators import (
    Add,
    AddPositions,
    Attention,
    ChannelShuffle,
    Concat,
    Conv2d,
    GroupNorm,
    Linear,
    MergeTokens,
    Operator,
    PrependTokens,
    Slice,
    WindowAttention,
)

READERS = (Conv2d, Linear)
"""Operators that can read one group of channels and write another."""
KEPT: Mapping[type[Operator], str] = {
    Concat: "read by a concatenation",
    Slice: "split into parts",
    ChannelShuffle: "shuffled",
    PrependTokens: "those of learned tokens",
    AddPositions: "those of learned positions",
    MergeTokens: "those of several tokens",
}
"""Operators whose number of channels cannot change, with the reason: their output channels do not correspond
one by one to their input channels, or their weights do not have the channels in the first dimension."""


@dataclass
class Channels:
    """A group of coupled channels, which are dropped together."""

    members: list[int] = field(default_factory=list)
    """Nodes whose outputs have these channels; the layer before attention, which computes queries, keys and
    values, has them three times."""
    writers: list[int] = field(default_factory=list)
    """Nodes whose weights determine the number of these channels."""
    readers: list[int] = field(default_factory=list)
    """Nodes that read all of these channels and write other channels."""
    channels: int = 0
    """Number of channels."""
    unit: int = 1
    """Number of channels of a unit, that is of a group of a convolution or of an attention head; only whole
    units can be dropped."""
    heads: bool = False
    """Whether the units are attention heads."""
    fixed: str = ""
    """Why the number of channels cannot change; empty: it can."""

    @property
    def units(self) -> int:
        """Number of units."""
        return self.channels // self.unit

    def has_sum(self, nodes: Sequence[Node]) -> bool:
        """Whether the channels belong to a residual stream, i.e. a sum has these channels."""
        return any(isinstance(nodes[i].op, Add) for i in self.members)


def coupled_channels(nodes: Sequence[Node]) -> list[Channels]:
    """The groups of coupled channels of a network, by union-find; the output of each node belongs to one
    group."""
    parent = {i: i for i in range(BLOCK_INPUT, len(nodes))}
    fixed: dict[int, str] = {}
    units: dict[int, int] = {}

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for i, node in enumerate(nodes):
        reason, unit = _coupling(nodes, node)
        if reason:
            fixed |= dict.fromkeys((*node.inputs, i), reason)
        elif not _is_dense(node):
            units[i] = unit
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
            group.heads |= isinstance(nodes[i].op, Attention | WindowAttention)
            if _is_dense(nodes[i]):
                group.writers.append(i)
                group.channels = nodes[i].output.channels // parts(nodes[i])
    for i, node in enumerate(nodes):
        if _is_dense(node):
            groups[root(node.inputs[0])].readers.append(i)
    return list(groups.values())


def elastic_channels(space: Space) -> list[Channels]:
    """The groups of coupled channels of the largest subnet whose number of channels is changed by a
    choice."""
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


def parts(node: Node) -> int:
    """How many times the output of a node has its coupled channels: 3 for queries, keys and values in one."""
    return node.op.parts if isinstance(node.op, Linear) else 1


def _coupling(nodes: Sequence[Node], node: Node) -> tuple[str, int]:
    """The reason why a node's number of channels cannot change (empty: it can), and the size of its units."""
    if _is_dense(node):
        return "", 1
    if isinstance(node.op, Conv2d):
        if node.op.channels != node.specs[0].channels:
            return "changed by a grouped convolution", 1
        return "", node.op.channels // node.op.groups
    if isinstance(node.op, GroupNorm):
        return "", node.specs[0].channels // node.op.groups
    if isinstance(node.op, Attention | WindowAttention):
        source, mixed = node.inputs[0], isinstance(node.op, Attention) and node.op.talking_heads
        if len(node.inputs) > 1 or mixed or source == BLOCK_INPUT or parts(nodes[source]) != 3:
            return "heads of attention", 1
        return "", node.op.head_dim(*node.specs)
    return KEPT.get(type(node.op), ""), 1


def _is_dense(node: Node) -> bool:
    return isinstance(node.op, READERS) and node.mixes_channels
