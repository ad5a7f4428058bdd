"""Batches of a training from any step, and the random generators of steps and epochs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor

from nas.data.batches import batches_per_epoch, train_batches, training_loader
from nas.data.dataset import Dataset, ImageDataset
from nas.recipes.recipe import Recipe
from nas.tasks import Task
from nas.tasks.base import Mixer
from nas.training.data_order import DataOrder
from search_spaces import Space


def rng_of(seed: int, stream: str, index: int) -> np.random.Generator:
    """The random generator of one step or epoch, the same on all ranks; `stream` separates the purposes."""
    return np.random.default_rng([seed, *stream.encode(), index])


@dataclass(frozen=True, eq=False)
class TrainingBatch:
    """This rank's share of the batch of a step."""

    x: Tensor
    """Images, shape (n, channels, size, size)."""
    y: Tensor
    """Targets, shape (n, ...)."""
    indices: NDArray[np.int64] | None
    """Images of the whole batch, if the data order learns from them."""
    total: int
    """Number of images in the whole batch, over all ranks."""


def batches(
    recipe: Recipe,
    space: Space,
    dataset: Dataset,
    order: DataOrder,
    mix: Mixer | None,
    fabric: Fabric,
    start: int,
    stop: int,
) -> Generator[TrainingBatch, None, None]:
    """The batches of the steps `start`..`stop`; closing the generator stops the loader processes."""
    steps_per_epoch = batches_per_epoch(dataset, recipe.data.batch_size)
    images = min(recipe.data.batch_size, len(dataset.split("train")))
    sizes = list(resolutions_by_size(space))
    on_gpu = fabric.device.type == "cuda"
    loader = training_loader(dataset, recipe.data.workers, pin_memory=on_gpu)
    try:
        for epoch in range(start // steps_per_epoch, stop // steps_per_epoch):
            begin = epoch * steps_per_epoch
            epoch_order = order.epoch(epoch, rng_of(recipe.seed, "order", epoch), begin / stop)
            first = max(0, start - begin)
            loaded = train_batches(
                dataset,
                sizes,
                recipe.data.batch_size,
                torch.Generator().manual_seed(int(rng_of(recipe.seed, "data", epoch).integers(2**62))),
                order=epoch_order,
                first=first,
                rank=fabric.global_rank,
                world_size=fabric.world_size,
                loader=loader,
            )
            for i, (x, y) in enumerate(loaded, start=first):
                mix_seed = int(rng_of(recipe.seed, "mix", begin + i).integers(2**62))
                if mix:
                    x, y = mix(x, y, mix_seed)
                indices = (
                    None
                    if epoch_order is None
                    else epoch_order[i * recipe.data.batch_size : (i + 1) * recipe.data.batch_size]
                )
                x, y = (tensor.to(fabric.device, non_blocking=on_gpu) for tensor in (x, y))
                yield TrainingBatch(x, y, indices, images)
    finally:
        loader.close()


def make_mixer(recipe: Recipe, task: Task, dataset: Dataset) -> Mixer | None:
    """Mixup and cutmix of the recipe; None: images are not mixed.

    Raises:
        ValueError: the recipe mixes images and the targets of the task cannot be mixed.
    """
    mixup, cutmix = recipe.augmentation.mixup_alpha, recipe.augmentation.cutmix_alpha
    if not (mixup or cutmix):
        return None
    mix = task.mixer(len(dataset.output_names), mixup, cutmix)
    if mix is None:
        raise ValueError(
            f"the task {recipe.task!r} cannot mix targets, got mixup_alpha {mixup} and cutmix_alpha "
            f"{cutmix}; leave them out of augmentation"
        )
    return mix


def with_augmentation(dataset: Dataset, name: str, task: Task) -> Dataset:
    """The training images of a data set, with another augmentation unless `name` is `dataset`.

    Raises:
        ValueError: the task has no augmentation of this name.
    """
    if name == "dataset":
        return dataset
    if name not in task.augmentations:
        raise ValueError(f"augmentation.kind must be one of {['dataset', *task.augmentations]}, got {name!r}")
    return ImageDataset(
        dataset.output_names, dataset.preprocess, task.augmentations[name], {"train": dataset.split("train")}
    )


def resolutions_by_size(space: Space) -> Mapping[int, Sequence[int]]:
    """The resolutions of the subnets that take images of a size, by this size in pixels.

    The size of the images is the resolution, unless the network itself resizes its input: then all subnets
    take images of the same size.
    """
    resolutions: dict[int, list[int]] = defaultdict(list)
    for resolution in space.resolutions:
        resolutions[space.image_size(space.largest | {"resolution": resolution})].append(resolution)
    return resolutions
