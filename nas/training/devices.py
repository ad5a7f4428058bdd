"""Devices, precision and processes."""

from __future__ import annotations

import torch
from lightning_fabric import Fabric
from torch import Tensor

from nas.recipe import Recipe
from nas.supernet import Supernet


def make_fabric(recipe: Recipe) -> Fabric:
    """The devices and the precision that the recipe asks for.

    Raises:
        ValueError: this machine does not have them.
    """
    try:
        return Fabric(
            accelerator=recipe.accelerator,
            devices=recipe.devices,
            num_nodes=recipe.num_nodes,
            precision=recipe.precision,
        )
    except (RuntimeError, ValueError) as error:  # Fabric raises either, by the kind of accelerator
        reason = " ".join(str(error).split())
        raise ValueError(
            f"cannot train on accelerator {recipe.accelerator!r} with {recipe.devices} devices: {reason}"
        ) from None


def average_gradients(fabric: Fabric, supernet: Supernet) -> None:
    """Mean of the gradients over all processes: one all-reduce a step, however many subnets it had."""
    if fabric.world_size == 1:
        return
    gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in supernet.parameters()]
    flat = fabric.all_reduce(torch.cat([g.flatten() for g in gradients]), reduce_op="mean")
    assert isinstance(flat, Tensor)
    parts = flat.split([g.numel() for g in gradients])
    for parameter, part in zip(supernet.parameters(), parts, strict=True):
        parameter.grad = part.view_as(parameter)
