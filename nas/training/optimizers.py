"""How gradients change the weights."""

from __future__ import annotations

import torch

from nas.recipe import Recipe
from nas.supernet import Supernet


def make_optimizer(supernet: Supernet, recipe: Recipe) -> torch.optim.SGD:
    """SGD with Nesterov momentum; weight decay on matrices and kernels alone."""
    parameters = list(supernet.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum, nesterov=recipe.momentum > 0)
