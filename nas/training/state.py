"""The state of a training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import Precision
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from nas.recipes.recipe import Recipe
from nas.samplers import Sampler
from nas.torch_backend.supernet import Supernet
from nas.training.data_order import DataOrder
from nas.training.log import TrainingLog
from nas.training.optimizers import make_optimizer
from nas.training.reductions import synchronize_batch_norms
from search_spaces import Space


@dataclass
class TrainingState:
    """Everything that changes during training; the content of a checkpoint."""

    supernet: Supernet
    optimizer: torch.optim.Optimizer
    average: AveragedModel | None
    """Exponential moving average of the weights."""
    sampler: Sampler
    data_order: DataOrder
    log: TrainingLog
    precision: Precision
    """Fabric's precision; it holds the scale of the losses for float16."""
    step: int = 0
    """Number of completed steps."""
    consistent: bool = True
    """False while a step updates the weights; the state must not be saved then."""

    @classmethod
    def start(
        cls,
        recipe: Recipe,
        space: Space,
        fabric: Fabric,
        sampler: Sampler,
        data_order: DataOrder,
        log: TrainingLog,
    ) -> TrainingState:
        """The state before the first step."""
        supernet = Supernet(space, recipe.seed, zero_init_residual=recipe.batch_norm.zero_init_residual)
        supernet.to(fabric.device).train()
        if recipe.batch_norm.synchronized and fabric.world_size > 1:
            synchronize_batch_norms(supernet)
        average = None
        if recipe.ema.decay:
            average = AveragedModel(supernet, multi_avg_fn=get_ema_multi_avg_fn(recipe.ema.decay))
        optimizer = fabric.setup_optimizers(make_optimizer(supernet, recipe))
        assert isinstance(optimizer, torch.optim.Optimizer)  # one argument gives one result
        return cls(supernet, optimizer, average, sampler, data_order, log, fabric.strategy.precision)

    def state_dict(self) -> dict[str, Any]:
        """Plain values and tensors for a checkpoint."""
        return {
            "supernet": self.supernet.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average.state_dict() if self.average else None,
            "sampler": self.sampler.state_dict(),
            "data_order": self.data_order.state_dict(),
            "log": self.log.state_dict(),
            "precision": self.precision.state_dict(),
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Restore the state of a checkpoint."""
        self.supernet.load_state_dict(saved["supernet"])
        self.optimizer.load_state_dict(saved["optimizer"])
        if self.average:
            self.average.load_state_dict(saved["average"])
        self.sampler.load_state_dict(saved["sampler"])
        self.data_order.load_state_dict(saved["data_order"])
        self.log.load_state_dict(saved["log"])
        self.precision.load_state_dict(saved["precision"])
        self.step = saved["step"]

    def restart(self) -> None:
        """Reset the optimizer's state and the average, after the weights were changed directly."""
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": {}, "param_groups": groups})
        if self.average:
            self.average.n_averaged.zero_()  # the next update starts a new average

    def trained_weights(self) -> dict[str, Tensor]:
        """The result of the training: the average of the weights if there is one, otherwise the weights."""
        model = self.average.module if self.average else self.supernet
        return model.state_dict()
