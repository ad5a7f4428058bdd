"""How gradients change the weights."""

from __future__ import annotations

import math
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.optim import SGD, AdamW, Optimizer, RMSprop

from nas.recipes.groups import (
    AdamWConfig,
    Clipping,
    NormClippingConfig,
    RmspropConfig,
    SgdConfig,
    ValueClippingConfig,
)
from nas.recipes.recipe import Recipe
from nas.torch_backend.supernet import Supernet
from nas.training.groups import parameter_groups


class SharedWeightsSGD(SGD):
    """SGD for weights of which a step may leave some without a gradient: its subnets may not use them.

    torch's fused SGD refuses a step in which some weights have a momentum already and others not yet. The
    momentum of a weight that never had a gradient is 0, which changes nothing.
    """

    def step(self, closure: Any = None) -> Any:
        """See `torch.optim.Optimizer`."""
        for group in self.param_groups:
            for parameter in group["params"] if group["momentum"] else []:
                if parameter.grad is not None and not self.state[parameter]:
                    self.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        return super().step(closure)


RMSPROP_EPSILON = 1e-3
"""Large, so that weights with tiny gradients do not take steps of full length."""


def make_optimizer(supernet: Supernet, recipe: Recipe) -> Optimizer:
    """The recipe's optimizer; weight decay acts on matrices and kernels alone."""
    config = recipe.optimizer
    groups = parameter_groups(supernet, config, recipe.finetuning)
    # one kernel for all weights is 4 to 7 times as fast, but Fabric clips no scaled gradients then
    fused = recipe.compute.precision != "16-mixed"
    match config:
        case SgdConfig():
            nesterov = config.momentum > 0
            return SharedWeightsSGD(
                groups, lr=config.lr, momentum=config.momentum, nesterov=nesterov, fused=fused
            )
        case RmspropConfig():
            return RMSprop(groups, lr=config.lr, alpha=0.9, eps=RMSPROP_EPSILON, momentum=config.momentum)
        case AdamWConfig():
            return AdamW(groups, lr=config.lr, betas=(config.beta1, 0.999), fused=fused)


def clip_gradients(fabric: Fabric, supernet: Supernet, optimizer: Optimizer, clipping: Clipping) -> Tensor:
    """Limit the gradient's norm or values; returns the norm that it had."""
    if isinstance(clipping, ValueClippingConfig):
        norm = get_total_norm(p.grad for p in supernet.parameters() if p.grad is not None)
        fabric.clip_gradients(supernet, optimizer, clip_val=clipping.max_value)
        return norm
    limit = clipping.max_norm if isinstance(clipping, NormClippingConfig) else math.inf
    clipped = fabric.clip_gradients(supernet, optimizer, max_norm=limit, error_if_nonfinite=False)
    assert isinstance(clipped, Tensor)  # it is None only for clip_val
    return clipped
