"""How gradients change the weights."""

from __future__ import annotations

import torch

from nas.recipe import Recipe
from nas.supernet import Supernet
from nas.training.groups import parameter_groups


def make_optimizer(supernet: Supernet, recipe: Recipe) -> torch.optim.SGD:
    """SGD with Nesterov momentum; weight decay on matrices and kernels alone."""
    groups = parameter_groups(supernet, recipe)
    return torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum, nesterov=recipe.momentum > 0)
