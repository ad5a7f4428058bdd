"""Training and evaluation of a plain torch network on the images of a recipe."""

from __future__ import annotations

import time

import numpy as np
import torch
from torch import nn

from nas import tasks
from nas.data.batches import batches_per_epoch, eval_batches, plan_epoch, training_loader
from nas.data.dataset import Dataset, SplitName
from nas.data.normalization import Normalization
from nas.evaluation.evaluate import measure
from nas.progress import Progress, silent
from nas.recipes.groups import NormClippingConfig, SgdConfig
from nas.recipes.recipe import Recipe
from nas.training.schedule import LearningRate

BATCH_SIZE = 100
"""Batch size of the evaluation; results do not depend on it."""


def train_alone(
    net: nn.Module,
    recipe: Recipe,
    dataset: Dataset,
    size: int,
    *,
    name: str = "",
    progress: Progress = silent,
) -> float:
    """Train a network on labels, with the epochs, batches, optimizer and schedule of a recipe.

    Args:
        net: the network, trained in place.
        recipe: the recipe, with SGD and a limit of the gradient's norm.
        dataset: source of the images.
        size: side of the images, in pixels.
        name: name of the network, for the progress.
        progress: called after every step.

    Returns:
        The time of the training, in seconds.

    Raises:
        FloatingPointError: the training diverged.
    """
    config, clipping = recipe.optimizer, recipe.clipping
    assert isinstance(config, SgdConfig)
    assert isinstance(clipping, NormClippingConfig)
    task = tasks.get(recipe.task)
    chosen = recipe.loss.label_smoothing
    smoothing = (task.label_smoothing if chosen is None else chosen) or 0.0
    schedule = LearningRate(recipe, batches_per_epoch(dataset, recipe.data.batch_size))
    weights = list(net.parameters())
    groups = [
        {"params": [w for w in weights if w.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [w for w in weights if w.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.SGD(groups, config.lr, momentum=config.momentum, nesterov=True)
    net.train().to(memory_format=torch.channels_last)
    load, normalize = training_loader(dataset), Normalization(dataset.preprocess, torch.device("cpu"))
    begin, step = time.perf_counter(), 0
    for epoch in range(recipe.epochs):
        seed = np.random.default_rng([recipe.seed, epoch]).integers(2**62)
        generator = torch.Generator().manual_seed(int(seed))
        for pixels, y in load(plan_epoch(dataset, [size], recipe.data.batch_size, generator)):
            for group in optimizer.param_groups:
                group["lr"] = schedule(step)
            optimizer.zero_grad()
            loss = task.loss(net(normalize(pixels)), y, smoothing)
            loss.backward()
            norm = nn.utils.clip_grad_norm_(weights, clipping.max_norm)
            if not norm.isfinite():
                raise FloatingPointError(f"the training of {name} diverged at step {step}")
            optimizer.step()
            step += 1
            progress(f"train {name}", step, schedule.total)
    return time.perf_counter() - begin


def accuracy(net: nn.Module, recipe: Recipe, dataset: Dataset, split: SplitName, size: int) -> float:
    """Accuracy of a trained network on a split, 0 to 1."""
    metrics = {"top1": tasks.get(recipe.task).metrics["top1"]}
    return measure(net.eval(), eval_batches(dataset, split, size, BATCH_SIZE), metrics)["top1"]
