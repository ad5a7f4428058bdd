"""Which weights training changes, and how fast each."""

from __future__ import annotations

from typing import Any

from nas.recipes.recipe import Recipe
from nas.torch_backend.supernet import Supernet

LR_SHARE = "lr_share"
"""Key of a group: its learning rate as a share of the schedule's."""


def parameter_groups(supernet: Supernet, recipe: Recipe) -> list[dict[str, Any]]:
    """Groups for an optimizer: body and head (the classifier), each with and without weight decay.

    Weight decay acts on matrices and kernels alone. Where the recipe freezes the body, its weights get no
    gradients.
    """
    head = list(supernet.classifier.parameters())
    body = [p for p in supernet.parameters() if all(p is not h for h in head)]
    for parameter in body:
        parameter.requires_grad = not recipe.freeze_body
    head_share = 1.0 if recipe.lr_head is None else recipe.lr_head / recipe.lr
    parts = [(head, head_share)] if recipe.freeze_body else [(body, 1.0), (head, head_share)]
    return [
        {"params": chosen, "weight_decay": decay, LR_SHARE: share}
        for parameters, share in parts
        for chosen, decay in (
            ([p for p in parameters if p.ndim > 1], recipe.weight_decay),
            ([p for p in parameters if p.ndim <= 1], 0.0),
        )
        if chosen
    ]
