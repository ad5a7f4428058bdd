"""Which weights training changes, and how fast each."""

from __future__ import annotations

from typing import Any

from nas.recipes.groups import FinetuningConfig, Optimizer
from nas.torch_backend.supernet import Supernet

LR_SHARE = "lr_share"
"""Key of a group: its learning rate as a share of the schedule's."""


def parameter_groups(
    supernet: Supernet, optimizer: Optimizer, finetuning: FinetuningConfig
) -> list[dict[str, Any]]:
    """Groups for an optimizer: body and head (the classifier), each with and without weight decay.

    Weight decay acts on matrices and kernels alone. With `freeze_body`, its weights get no
    gradients.
    """
    head = list(supernet.classifier.parameters())
    body = [p for p in supernet.parameters() if all(p is not h for h in head)]
    for parameter in body:
        parameter.requires_grad = not finetuning.freeze_body
    head_share = 1.0 if finetuning.head_lr is None else finetuning.head_lr / optimizer.lr
    parts = [(head, head_share)] if finetuning.freeze_body else [(body, 1.0), (head, head_share)]
    return [
        {"params": chosen, "weight_decay": decay, LR_SHARE: share}
        for parameters, share in parts
        for chosen, decay in (
            ([p for p in parameters if p.ndim > 1], optimizer.weight_decay),
            ([p for p in parameters if p.ndim <= 1], 0.0),
        )
        if chosen
    ]
