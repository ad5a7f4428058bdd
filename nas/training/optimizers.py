"""Optimizers, parameter groups and gradient clipping."""

from __future__ import annotations

import math
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.optim import SGD, AdamW, Optimizer, RMSprop

from nas.recipes.groups import (
    AdamWConfig,
    Clipping,
    FinetuningConfig,
    NormClippingConfig,
    RmspropConfig,
    SgdConfig,
    ValueClippingConfig,
)
from nas.recipes.groups import Optimizer as OptimizerConfig
from nas.recipes.recipe import Recipe
from nas.torch_backend.elastic import ElasticOperator
from nas.torch_backend.supernet import Supernet

LR_SCALE = "lr_scale"
"""Key of a parameter group for the factor on the learning rate of the schedule."""


def parameter_groups(
    supernet: Supernet, optimizer: OptimizerConfig, finetuning: FinetuningConfig
) -> list[dict[str, Any]]:
    """Parameter groups for an optimizer: body and head (the classifier), each with and without weight decay.

    Only matrices and kernels have weight decay, not learned tokens and positions. With `freeze_body`, the
    weights of the body are set to `requires_grad = False` and have no group.
    """
    head = list(supernet.classifier.parameters())
    body = [p for p in supernet.parameters() if all(p is not h for h in head)]
    for parameter in body:
        parameter.requires_grad = not finetuning.freeze_body
    operators = [module for module in supernet.modules() if isinstance(module, ElasticOperator)]
    undecayed = {id(module.get_parameter(name)) for module in operators for name in module.undecayed}

    def is_decayed(parameter: Tensor) -> bool:
        return parameter.ndim > 1 and id(parameter) not in undecayed

    head_scale = 1.0 if finetuning.head_lr is None else finetuning.head_lr / optimizer.lr
    parts = [(head, head_scale)] if finetuning.freeze_body else [(body, 1.0), (head, head_scale)]
    return [
        {"params": group, "weight_decay": decay, LR_SCALE: scale}
        for parameters, scale in parts
        for group, decay in (
            ([p for p in parameters if is_decayed(p)], optimizer.weight_decay),
            ([p for p in parameters if not is_decayed(p)], 0.0),
        )
        if group
    ]


class SharedWeightsSGD(SGD):
    """SGD that accepts parameters without a gradient in steps whose subnets do not use them.

    torch's fused SGD fails in a step in which only some parameters have a momentum buffer. A buffer of zeros
    gives the same result.
    """

    def step(self, closure: Any = None) -> Any:
        """See `torch.optim.Optimizer`."""
        for group in self.param_groups:
            for parameter in group["params"] if group["momentum"] else []:
                if parameter.grad is not None and not self.state[parameter]:
                    self.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        return super().step(closure)


RMSPROP_EPSILON = 1e-3
"""Epsilon of RMSprop; large, so that weights with tiny gradients do not take steps of full length."""


def make_optimizer(supernet: Supernet, recipe: Recipe) -> Optimizer:
    """Create the optimizer of a recipe; only matrices and kernels have weight decay."""
    config = recipe.optimizer
    groups = parameter_groups(supernet, config, recipe.finetuning)
    # the fused optimizer is 4 to 7 times as fast, but Fabric cannot clip scaled gradients with it
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
    """Clip the norm or the values of the gradients; returns the norm before clipping."""
    if isinstance(clipping, ValueClippingConfig):
        norms = [torch.linalg.vector_norm(p.grad) for p in supernet.parameters() if p.grad is not None]
        norm: Tensor = torch.linalg.vector_norm(torch.stack(norms))
        fabric.clip_gradients(supernet, optimizer, clip_val=clipping.max_value)
        return norm
    limit = clipping.max_norm if isinstance(clipping, NormClippingConfig) else math.inf
    clipped = fabric.clip_gradients(supernet, optimizer, max_norm=limit, error_if_nonfinite=False)
    assert isinstance(clipped, Tensor)  # it is None only for clip_val
    return clipped
