"""Importance of channels, groups and attention heads, and sorting by importance.

A smaller subnet uses the first channels, so the most important channels must come first. A unit is a channel,
or all channels of a group of a convolution or of an attention head.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from nas.torch_backend.channel_order import descending, permute_outputs
from nas.torch_backend.coupled_channels import Channels, parts
from nas.torch_backend.functional import run_network
from nas.torch_backend.supernet import Supernet
from search_spaces import Node
from search_spaces.operators import Attention, WindowAttention
from search_spaces.tensors import TensorSpec

HAS_BIAS_OF_HEADS = (Attention, WindowAttention)
"""Operators whose weights have heads, if at all, in the last dimension."""
Loss = Callable[[Tensor, Tensor], Tensor]
"""Mean loss of outputs (n, ...) on targets (n, ...)."""
Batches = Iterable[tuple[Tensor, Tensor]]
"""Images (n, channels, size, size) with their targets (n, ...)."""


@torch.no_grad()
def norm_importance(supernet: Supernet, groups: Sequence[Channels]) -> list[Tensor]:
    """Importance of the units of each group from the weights, shape (units,).

    The importance of a channel is the sum of the absolute weights that write and read the channel, as in
    ViT-ResNAS (Liao et al. 2021). After a batch norm, which hides the scale of the weights that write the
    channel, it is the L2 norm of the weights that read the channel, times the factor (`weight`) of the last
    batch norm. The importance of a unit is the sum over its channels.
    """
    nodes = supernet.space.network(supernet.space.largest).nodes
    return [_by_channel(supernet, nodes, group).view(group.units, -1).sum(1) for group in groups]


def taylor_importance(
    supernet: Supernet, groups: Sequence[Channels], batches: Batches, loss: Loss
) -> list[Tensor]:
    """First-order estimate of the change of the loss if a unit is removed, absolute, summed over the images.

    The change is the derivative of the loss of the largest subnet with respect to a factor on the unit, as in
    DynaBERT (Hou et al. 2020, §2.1).

    Returns:
        as `norm_importance`.
    """
    space = supernet.space
    nodes = space.network(space.largest).nodes
    group_of = {nodes[i].path: g for g, group in enumerate(groups) for i in group.readers}
    totals: list[Tensor] = []
    for x, targets in batches:
        factors = [x.new_ones(len(x), group.units).requires_grad_() for group in groups]

        def compute(node: Node, inputs: Sequence[Tensor], factors: Sequence[Tensor] = factors) -> Tensor:
            if node.path in group_of:
                inputs = [_scaled(inputs[0], factors[group_of[node.path]], node.specs[0])]
            result: Tensor = supernet.operator(node)(node, inputs)
            return result

        total = loss(run_network(space.blocks(space.largest), x, compute, fast=True), targets) * len(x)
        changes = [gradient.abs().sum(0) for gradient in torch.autograd.grad(total, factors)]
        totals = [*map(torch.add, totals, changes)] if totals else changes
    return totals


@torch.no_grad()
def sort_units(supernet: Supernet, groups: Sequence[Channels], importance: Sequence[Tensor]) -> None:
    """Sort units by importance, in place; grouped convolutions and attention keep whole units.

    The outputs of the largest subnet do not change, except for rounding.

    Args:
        supernet: its weights are permuted.
        groups: as returned by `elastic_channels`.
        importance: as returned by `norm_importance` or `taylor_importance`.
    """
    nodes = supernet.space.network(supernet.space.largest).nodes
    for group, values in zip(groups, importance, strict=True):
        units = descending(values)
        order = (units[:, None] * group.unit + torch.arange(group.unit).to(units)).flatten()
        for node in (nodes[i] for i in group.members if nodes[i].parameters):
            operator = supernet.operator(node)
            if isinstance(node.op, HAS_BIAS_OF_HEADS):
                for name in node.parameters.keys() & {"bias", "scale"}:  # numbers for each head
                    own = operator.get_parameter(name)
                    own.copy_(own[..., units])
                continue
            rows = [part * group.channels + order for part in range(parts(node))]
            permute_outputs(operator, torch.cat(rows))
        for i in group.readers:
            weight = supernet.operator(nodes[i]).get_parameter("weight")
            weight.copy_(_columns(weight, group)[:, order].reshape(weight.shape))


def _by_channel(supernet: Supernet, nodes: Sequence[Node], group: Channels) -> Tensor:
    """Importance of each channel from the weights, shape (channels,)."""
    read = [_columns(supernet.operator(nodes[i]).get_parameter("weight"), group) for i in group.readers]
    norms = [nodes[i] for i in group.members if "running_var" in nodes[i].parameters]
    if norms:
        squares = torch.stack([weight.square().sum((0, 2)) for weight in read]).sum(0)
        return squares.sqrt() * supernet.operator(norms[-1]).get_parameter("weight").abs()
    written = [
        tensor.abs().reshape(parts(nodes[i]), group.channels, -1).sum((0, 2))
        for i in group.writers
        for tensor in supernet.operator(nodes[i]).parameters(recurse=False)
    ]
    return torch.stack([*written, *(weight.abs().sum((0, 2)) for weight in read)]).sum(0)


def _columns(weight: Tensor, group: Channels) -> Tensor:
    """The weight of a reader, shape (outputs, channels, rest); `rest` are kernel positions or flattened
    pixels."""
    return weight.reshape(len(weight), group.channels, -1)


def _scaled(x: Tensor, factors: Tensor, spec: TensorSpec) -> Tensor:
    """Multiply a tensor by one factor per image and unit, shape (images, units)."""
    by_channel = factors.repeat_interleave(spec.channels // factors.shape[1], 1)
    sizes = (1,) * len(spec.size)
    shape = (*sizes, -1) if spec.layout == "tokens" else (-1, *sizes)
    return x * by_channel.reshape(len(x), *shape)
