"""Order of channels by importance, so that a smaller width has the most important ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from nas.importing.torch_model.lowering import Layer
from nas.importing.torch_model.structure import Channels
from nas.torch_backend.channel_order import descending


@torch.no_grad()
def sort_by_norm(layers: Sequence[Layer], groups: Sequence[Channels], weights: Mapping[str, Tensor]) -> None:
    """Sort elastic channels by the weights that read them, in place; the network computes the same.

    The importance of a channel is the L2 norm of the weights that read it, times the factor of the last batch
    norm or, without one, the L2 norm of the weights that write it.

    Args:
        layers: the layers of the network.
        groups: the coupled channels to sort.
        weights: weights and statistics by name.
    """
    for group in groups:
        read = sum(_by_input(layers, i, group, weights).square().sum(0) for i in group.readers)
        norms = [i for i in group.members if layers[i].op == "batch_norm"]
        if norms:
            factor = weights[f"{layers[norms[-1]].path}.weight"].abs()
        else:
            written = [weights[f"{layers[i].path}.weight"].flatten(1) for i in group.writers]
            factor = torch.stack([weight.square().sum(1) for weight in written]).sum(0).sqrt()
        assert isinstance(read, Tensor)
        permute(layers, group, weights, order_of(read.sqrt() * factor, group.unit))


def order_of(importance: Tensor, unit: int) -> Tensor:
    """Indices of channels by descending importance; the groups of a grouped convolution stay whole.

    Args:
        importance: shape (c,).
        unit: channels of a group.
    """
    units = descending(importance.reshape(-1, unit).sum(1))
    return (units[:, None] * unit + torch.arange(unit)).flatten()


def permute(layers: Sequence[Layer], group: Channels, weights: Mapping[str, Tensor], order: Tensor) -> None:
    """Permute coupled channels in all weights and statistics that have them, in place."""
    for i in group.members:
        for name in ("weight", "bias", "running_mean", "running_var"):
            tensor = weights.get(f"{layers[i].path}.{name}")
            if tensor is not None:
                tensor.copy_(tensor[order])
    for i in group.readers:
        weight = weights[f"{layers[i].path}.weight"]
        weight.copy_(_restored(_by_input(layers, i, group, weights)[:, order], weight))


def _by_input(layers: Sequence[Layer], reader: int, group: Channels, weights: Mapping[str, Tensor]) -> Tensor:
    """The weight of a layer that reads a group, shape (rest, c)."""
    weight = weights[f"{layers[reader].path}.weight"]
    channels = layers[group.writers[0]].output.channels
    # a flattened feature map has the pixels of each channel in a row
    by_channel = weight.reshape(weight.shape[0], channels, -1)
    return by_channel.transpose(1, 2).flatten(0, 1)


def _restored(by_input: Tensor, weight: Tensor) -> Tensor:
    """The inverse of `_by_input`."""
    rows: Tensor = by_input.unflatten(0, (weight.shape[0], -1))
    return rows.transpose(1, 2).reshape(weight.shape)
