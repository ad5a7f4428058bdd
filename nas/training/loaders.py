"""Batches of a training from any step, and the random generators of steps and epochs."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import current_process

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor

from hw_profiles.measuring.runner.process_limits import usable_cores
from nas.data.batches import BatchPlan, batches_per_epoch, plan_epoch, training_loader
from nas.data.dataset import Dataset, ImageDataset
from nas.data.image_folder import ImageFiles
from nas.data.loading import fitting_workers
from nas.data.normalization import Normalization
from nas.recipes.recipe import Recipe
from nas.tasks import Task
from nas.tasks.base import Mixer
from nas.training.accelerator import local_processes
from nas.training.data_order import DataOrder
from search_spaces import Space


def rng_of(seed: int, stream: str, index: int) -> np.random.Generator:
    """The random generator of one step or epoch, the same on all ranks; each purpose has its own `stream`."""
    return np.random.default_rng([seed, *stream.encode(), index])


@dataclass(frozen=True, eq=False)
class TrainingBatch:
    """This rank's share of the batch of a step."""

    x: Tensor
    """Images, shape (n, channels, size, size)."""
    y: Tensor
    """Targets, shape (n, ...)."""
    indices: NDArray[np.int64] | None
    """Indices of the images of the whole batch, if the data order learns from them."""
    total: int
    """Number of images in the whole batch, over all ranks."""
    loading_seconds: float = 0.0
    """Time that one process worked to load this rank's share."""


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
    """The batches of the steps `start`..`stop`; closing the generator stops the loader processes.

    Pixels are copied to the device as they are loaded, and are normalized and mixed there.
    """
    batch_size = recipe.data.batch_size
    steps_per_epoch = batches_per_epoch(dataset, batch_size)
    images = min(batch_size, len(dataset.split("train")))
    sizes = list(resolutions_by_size(space))
    normalize = Normalization(dataset.preprocess, fabric.device)
    on_gpu = fabric.device.type == "cuda"
    loader = training_loader(dataset, loader_processes(recipe, space, dataset), pin_memory=on_gpu)
    shown: deque[NDArray[np.int64] | None] = deque()  # images of the planned batches, over all ranks

    def plans(epochs: range) -> Iterator[BatchPlan]:
        for epoch in epochs:
            begin = epoch * steps_per_epoch
            first = max(0, start - begin)
            epoch_order = order.epoch(epoch, rng_of(recipe.seed, "order", epoch), begin / stop)
            planned = plan_epoch(
                dataset,
                sizes,
                batch_size,
                torch.Generator().manual_seed(int(rng_of(recipe.seed, "data", epoch).integers(2**62))),
                order=epoch_order,
                first=first,
                rank=fabric.global_rank,
                world_size=fabric.world_size,
            )
            for i, plan in enumerate(planned, start=first):
                shown.append(
                    None if epoch_order is None else epoch_order[i * batch_size : (i + 1) * batch_size]
                )
                yield plan

    step, busy_seconds = start, 0.0
    epochs = range(start // steps_per_epoch, stop // steps_per_epoch)
    try:
        for part in [epochs] if order.known_ahead else [range(epoch, epoch + 1) for epoch in epochs]:
            for pixels, targets in loader(plans(part)):
                pixels, y = (tensor.to(fabric.device, non_blocking=on_gpu) for tensor in (pixels, targets))
                x = normalize(pixels)
                if mix:
                    x, y = mix(x, y, int(rng_of(recipe.seed, "mix", step).integers(2**62)))
                yield TrainingBatch(x, y, shown.popleft(), images, loader.busy_seconds - busy_seconds)
                step, busy_seconds = step + 1, loader.busy_seconds
    finally:
        loader.close()


def loader_processes(recipe: Recipe, space: Space, dataset: Dataset) -> int:
    """Number of processes that load images for each training process; 0: the training process loads them.

    By default, images in files are loaded by as many processes as there are usable cores, or fewer if their
    batches do not fit into shared memory.
    """
    if recipe.data.workers is not None:
        return recipe.data.workers
    if not isinstance(dataset.split("train").images, ImageFiles) or current_process().daemon:
        return 0
    training = local_processes(recipe.compute)  # all share the memory; each loads a part of a batch
    pixels = max(resolutions_by_size(space)) ** 2 * dataset.preprocess.channels
    return min(usable_cores() // training, fitting_workers(recipe.data.batch_size * pixels))


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
    """By image size in pixels: the resolutions of the subnets that take images of this size.

    The size of the images is the resolution, unless the network itself resizes its input: then all subnets
    take images of the same size.
    """
    resolutions: dict[int, list[int]] = defaultdict(list)
    for resolution in space.resolutions:
        resolutions[space.image_size(space.largest | {"resolution": resolution})].append(resolution)
    return resolutions
