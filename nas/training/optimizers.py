"""How gradients change the weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.optim import SGD, AdamW, Optimizer, RMSprop

from nas.recipes.recipe import Recipe
from nas.torch_backend.supernet import Supernet
from nas.training.groups import parameter_groups

Groups = list[dict[str, Any]]


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


OPTIMIZERS: Mapping[str, Callable[[Groups, Recipe], Optimizer]] = {
    "sgd": lambda groups, recipe: SharedWeightsSGD(
        groups,
        lr=recipe.lr,
        momentum=recipe.momentum,
        nesterov=recipe.momentum > 0,
        fused=_can_fuse(recipe),
    ),
    "rmsprop": lambda groups, recipe: RMSprop(
        groups, lr=recipe.lr, alpha=0.9, eps=1e-3, momentum=recipe.momentum
    ),
    "adamw": lambda groups, recipe: AdamW(
        groups, lr=recipe.lr, betas=(recipe.momentum, 0.999), fused=_can_fuse(recipe)
    ),
}
"""RMSProp has the decay of BigNAS (Yu et al. 2020); its epsilon is ours, so that weights with tiny gradients
do not take steps of full length."""


def _can_fuse(recipe: Recipe) -> bool:
    """Whether one kernel may change all weights, 4 to 7 times as fast; Fabric then clips no scaled ones."""
    return recipe.precision != "16-mixed"


def make_optimizer(supernet: Supernet, recipe: Recipe) -> Optimizer:
    """The recipe's optimizer; weight decay acts on matrices and kernels alone."""
    return OPTIMIZERS[recipe.optimizer](parameter_groups(supernet, recipe), recipe)


def clip_gradients(fabric: Fabric, supernet: Supernet, optimizer: Optimizer, recipe: Recipe) -> Tensor:
    """Limit the gradient's norm or values, as the recipe says; the norm that it had."""
    if recipe.clip_value is None:
        limit = math.inf if recipe.clip_norm is None else recipe.clip_norm
        norm = fabric.clip_gradients(supernet, optimizer, max_norm=limit, error_if_nonfinite=False)
        assert isinstance(norm, Tensor)  # only where values are clipped there is none
        return norm
    norm = get_total_norm(p.grad for p in supernet.parameters() if p.grad is not None)
    fabric.clip_gradients(supernet, optimizer, clip_val=recipe.clip_value)
    return norm
