"""Sorting of attention heads and hidden channels, so that smaller subnets use the most important ones.

A unit is a head of an attention layer or a hidden channel of an MLP. Its importance is the L1 norm of its
weights, as in ViT-ResNAS (Liao et al. 2021), or the change of the loss if it were removed, to first order, as
in DynaBERT (Hou et al. 2020, §2.1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nas.torch_backend.channel_order import descending, inner_channels, largest_block, permute_outputs
from nas.torch_backend.functional import run_network
from nas.torch_backend.supernet import Supernet
from search_spaces import Block, Node, Space
from search_spaces.operators import Attention, Linear, RelativeBias

Loss = Callable[[Tensor, Tensor], Tensor]
"""Mean loss of outputs (n, ...) on targets (n, ...)."""
Batches = Iterable[tuple[Tensor, Tensor]]
"""Images (n, channels, size, size) with their targets (n, ...)."""


@dataclass(frozen=True)
class Units:
    """The units of a block."""

    writer: Node
    """The linear layer that computes the units; for attention, queries, keys and values."""
    reader: Node
    """The linear layer that reads the units."""
    channels: int
    """Channels of one unit that the reader reads."""
    attention: Node | None = None


def units_of(space: Space) -> list[Units]:
    """The units of all blocks of tokens.

    Raises:
        ValueError: the space has none.
    """
    blocks = [largest_block(space, slot) for slot in space.slots if slot.stage is not None]
    units = [units for block in blocks for units in _units(block)]
    if not units:
        raise ValueError(f"heads and hidden channels cannot be sorted: the space {space.name!r} has none")
    return units


def _units(block: Block) -> Iterator[Units]:
    for index, node in enumerate(block.nodes):
        if isinstance(node.op, Attention):
            readers = [reader for reader in block.nodes if index in reader.inputs]
            writer = block.nodes[node.inputs[0]] if node.inputs[0] >= 0 else node
            if len(readers) == 1 and isinstance(readers[0].op, Linear) and isinstance(writer.op, Linear):
                yield Units(writer, readers[0], node.op.head_dim(*node.specs), node)
    for group in inner_channels(block):
        if len(group.writers) == len(group.readers) == 1:
            writer, reader = group.writers[0], group.readers[0]
            if isinstance(writer.op, Linear) and isinstance(reader.op, Linear):
                yield Units(writer, reader, 1)


@torch.no_grad()
def norm_importance(supernet: Supernet) -> dict[str, Tensor]:
    """Sum of the absolute weights of each unit, shape (units,), by the path of its reader."""
    result = {}
    for units in units_of(supernet.space):
        written = sum(
            parameter.abs().flatten(1).sum(1) if parameter.ndim > 1 else parameter.abs()
            for parameter in supernet.operator(units.writer).parameters(recurse=False)
        )
        assert isinstance(written, Tensor)
        assert isinstance(units.writer.op, Linear)
        by_channel = written.view(units.writer.op.parts, -1).sum(0) + _weight(
            supernet, units.reader
        ).abs().sum(0)
        result[units.reader.path] = by_channel.view(-1, units.channels).sum(1)
    return result


def taylor_importance(supernet: Supernet, batches: Batches, loss: Loss) -> dict[str, Tensor]:
    """Absolute change of each image's loss if a unit were removed, to first order, summed over the images.

    The change is the derivative of the loss of the largest subnet by a factor on the output of the unit.

    Returns:
        as `norm_importance`.
    """
    all_units = {units.reader.path: units for units in units_of(supernet.space)}
    blocks = supernet.space.blocks(supernet.space.largest)
    totals: dict[str, Tensor] = {}
    for x, targets in batches:
        masks: dict[str, Tensor] = {}

        def compute(node: Node, inputs: Sequence[Tensor], masks: dict[str, Tensor] = masks) -> Tensor:
            if node.path in all_units:
                n, _, channels = inputs[0].shape
                masks[node.path] = inputs[0].new_ones(n, 1, channels).requires_grad_()
                inputs = [inputs[0] * masks[node.path]]
            result: Tensor = supernet.operator(node)(node, inputs)
            return result

        total = loss(run_network(blocks, x, compute, fast=True), targets) * len(x)
        gradients = torch.autograd.grad(total, list(masks.values()))
        for path, gradient in zip(masks, gradients, strict=True):
            by_image = gradient.view(len(x), -1, all_units[path].channels).sum(2).abs()
            totals[path] = totals.get(path, torch.zeros_like(by_image[0])) + by_image.sum(0)
    return totals


@torch.no_grad()
def sort_units(supernet: Supernet, importance: Mapping[str, Tensor]) -> None:
    """Sort the units of every block by importance, in place.

    The outputs of the largest subnet do not change, except for rounding.

    Args:
        supernet: its weights are permuted.
        importance: of `norm_importance` or `taylor_importance`.
    """
    for units in units_of(supernet.space):
        order = descending(importance[units.reader.path])
        channels = (order[:, None] * units.channels + torch.arange(units.channels).to(order)).flatten()
        assert isinstance(units.writer.op, Linear)
        rows = [part * len(channels) + channels for part in range(units.writer.op.parts)]
        permute_outputs(supernet.operator(units.writer), torch.cat(rows))
        weight = _weight(supernet, units.reader)
        weight.copy_(weight[:, channels])
        attention = units.attention
        if (
            attention
            and isinstance(attention.op, Attention)
            and isinstance(attention.op.relative, RelativeBias)
        ):
            bias = supernet.operator(attention).get_parameter("bias")  # one number for each head
            bias.copy_(bias[..., order])


def _weight(supernet: Supernet, node: Node) -> Tensor:
    return supernet.operator(node).get_parameter("weight")
