"""The batches of a whole training, from any step on."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from lightning_fabric import Fabric

from nas.data.batches import Batch, batches_per_epoch, train_batches
from nas.data.dataset import Dataset
from nas.recipe import Recipe
from nas.training.seeds import rng_of
from search_spaces import Space


def batches(
    recipe: Recipe, space: Space, dataset: Dataset, fabric: Fabric, start: int, stop: int
) -> Iterator[Batch]:
    """Images and labels of the steps `start`..`stop`, this process's share of each batch."""
    steps_per_epoch = batches_per_epoch(dataset, recipe.batch_size)
    for epoch in range(start // steps_per_epoch, stop // steps_per_epoch):
        batches = train_batches(
            dataset,
            space.resolutions,
            recipe.batch_size,
            torch.Generator().manual_seed(int(rng_of(recipe.seed, "data", epoch).integers(2**62))),
            first=max(0, start - epoch * steps_per_epoch),
            rank=fabric.global_rank,
            ranks=fabric.world_size,
            workers=recipe.workers,
        )
        for x, y in batches:
            yield x.to(fabric.device, non_blocking=True), y.to(fabric.device, non_blocking=True)
