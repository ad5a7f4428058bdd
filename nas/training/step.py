"""One optimiser step over the subnets that a sampler chose."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor

from nas.losses import distillation_loss, label_loss
from nas.recipe import Recipe
from nas.training.groups import LR_SHARE
from nas.training.reductions import average_gradients
from nas.training.state import TrainingState
from search_spaces import Arch


def train_step(
    fabric: Fabric,
    state: TrainingState,
    subnets: Sequence[Arch],
    x: Tensor,
    y: Tensor,
    lr: float,
    recipe: Recipe,
) -> list[float]:
    """One optimiser step over all subnets of the step; their losses."""
    for group in state.optimizer.param_groups:
        group["lr"] = lr * group[LR_SHARE]
    state.optimizer.zero_grad()
    losses: list[Tensor] = []
    teacher: Tensor | None = None
    for arch in subnets:
        with fabric.autocast():
            logits = state.supernet(x, arch)
        if teacher is None:
            teacher = logits
            loss = label_loss(logits, y, recipe.label_smoothing)
        else:
            loss = distillation_loss(logits, teacher)
        fabric.backward(loss)
        losses.append(loss.detach())
    means = average_gradients(state.supernet.parameters(), torch.stack(losses))
    values: list[float] = means.tolist()
    norm = fabric.clip_gradients(
        state.supernet, state.optimizer, max_norm=recipe.clip_norm, error_if_nonfinite=False
    )
    assert norm is not None  # only None where values are clipped
    overflow = recipe.precision != "16-mixed" and not norm.isfinite()  # there the scaler skips such a step
    if overflow or not np.isfinite(values).all():
        raise FloatingPointError(
            f"training diverged at step {state.step}: losses {values}, gradient norm {norm:.3g}; "
            f"lower `lr` ({recipe.lr}) or `clip_norm` ({recipe.clip_norm}) and start again"
        )
    state.optimizer.step()
    if state.average:
        state.average.update_parameters(state.supernet)
    return values
