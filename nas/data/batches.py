"""Batches for training, evaluation and batch-norm recalibration."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nas.data.dataset import Dataset, Split, SplitName, stratified_order
from nas.data.loading import Batch, Loader

MIN_CALIBRATION_IMAGES = 2
"""Smallest size of a calibration batch: the variance of one image may be undefined."""


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """Everything that determines one batch."""

    indices: NDArray[np.int64]
    resolution: int
    seed: int = 0
    """Seed of the augmentation."""


@dataclass(frozen=True, slots=True)
class ImageSample:
    """Some images of a split."""

    indices: NDArray[np.int64]
    seed: int = 0
    """Seed of the augmentation."""


def batches_per_epoch(dataset: Dataset, batch_size: int) -> int:
    """Number of batches of an epoch, which drops an incomplete last one unless it is the only one."""
    return max(1, len(dataset.split("train")) // batch_size)


def plan_epoch(
    dataset: Dataset,
    resolutions: Sequence[int],
    batch_size: int,
    generator: torch.Generator,
    *,
    order: NDArray[np.int64] | None = None,
    first: int = 0,
    rank: int = 0,
    world_size: int = 1,
) -> list[BatchPlan]:
    """Plans for one epoch of shuffled training images.

    Plan `i` depends only on `i` and the state of the generator at the call, not on `first`.

    Args:
        dataset: source of the images.
        resolutions: each batch draws its resolution from these, the same on all ranks.
        batch_size: images of a batch, over all ranks together.
        generator: source of the order, the resolutions and the augmentation; it must be equal on all ranks.
        order: indices of the images, with repeats allowed; None: a random order of all images.
        first: number of batches to skip, to resume inside an epoch.
        rank: index of this process, which gets every `world_size`-th image of each batch.
        world_size: number of processes.
    """
    if order is None:
        order = torch.randperm(len(dataset.split("train")), generator=generator).numpy()
    n_batches = max(1, len(order) // batch_size)
    sizes = torch.randint(len(resolutions), (n_batches,), generator=generator)
    seeds = torch.randint(2**62, (n_batches, world_size), generator=generator)
    return [
        BatchPlan(
            indices=order[i * batch_size : (i + 1) * batch_size][rank::world_size],
            resolution=resolutions[int(sizes[i])],
            seed=int(seeds[i, rank]),
        )
        for i in range(first, n_batches)
    ]


def training_loader(dataset: Dataset, workers: int = 0, *, pin_memory: bool = False) -> Loader[BatchPlan]:
    """Loads augmented training images for the plans of `plan_epoch`, with pixel values 0..255.

    Args:
        dataset: source of the images.
        workers: processes that prefetch batches; useful for images that are read from files.
        pin_memory: return batches in pinned memory, for asynchronous copies to a GPU.
    """
    make = partial(_augmented, dataset, dataset.split("train"))
    return Loader(make, workers, pin_memory=pin_memory)


def eval_batches(
    dataset: Dataset, split: SplitName, resolution: int, batch_size: int, *, workers: int = 0
) -> Iterator[Batch]:
    """Batches of all images of a split in order, without augmentation.

    Args:
        dataset: source of the images.
        split: name of the split.
        resolution: side of the images, in pixels.
        batch_size: images of a batch.
        workers: processes that prefetch batches.
    """
    images = dataset.split(split)
    plans = [BatchPlan(part, resolution) for part in _parts(np.arange(len(images)), batch_size)]
    return Loader(partial(_normalized, _clean, dataset, images), workers)(plans)


def calibration_batches(
    dataset: Dataset,
    strata: NDArray[np.int64],
    n_images: int,
    resolution: int,
    batch_size: int,
    seed: int,
    *,
    augmented: bool = False,
    workers: int = 0,
) -> Iterator[Batch]:
    """The batches of `calibration_samples`.

    Args:
        dataset: source of the images.
        strata: stratum of each training image.
        n_images: see `calibration_samples`.
        resolution: side of the images, in pixels.
        batch_size: see `calibration_samples`.
        seed: seed of the sample and the augmentation.
        augmented: whether to augment the images as in training.
        workers: processes that prefetch batches.

    Raises:
        ValueError: the sample has fewer than 2 images.
    """
    samples = calibration_samples(strata, n_images, batch_size, seed)
    plans = [BatchPlan(sample.indices, resolution, sample.seed) for sample in samples]
    make = partial(_normalized, _augmented if augmented else _clean, dataset, dataset.split("train"))
    return Loader(make, workers)(plans)


def calibration_samples(
    strata: NDArray[np.int64], n_images: int, batch_size: int, seed: int
) -> list[ImageSample]:
    """Training images for batch-norm recalibration: a stratified sample, in batches.

    Args:
        strata: stratum of each training image.
        n_images: size of the sample, at least 2; all training images if there are fewer.
        batch_size: largest size of a batch. The sample is spread evenly over the smallest possible number of
            batches, because the moments of a small last batch would be inaccurate.
        seed: seed of the sample and the augmentation.

    Raises:
        ValueError: the sample has fewer than 2 images.
    """
    rng = np.random.default_rng(seed)
    sample = stratified_order(strata, rng)[:n_images]
    if len(sample) < MIN_CALIBRATION_IMAGES:
        raise ValueError(
            f"calibration needs >= {MIN_CALIBRATION_IMAGES} training images, got {len(sample)} "
            f"({len(strata)} in the training split); add images or raise --calibration-images"
        )
    n_batches = min(math.ceil(len(sample) / batch_size), len(sample) // MIN_CALIBRATION_IMAGES)
    parts = np.array_split(sample, n_batches)
    return [ImageSample(part, int(rng.integers(2**62))) for part in parts]


def split_samples(split: Split, size: int) -> list[ImageSample]:
    """All images of a split in order, in samples of this size."""
    return [ImageSample(part) for part in _parts(np.arange(len(split)), size)]


def _parts(indices: NDArray[np.int64], batch_size: int) -> list[NDArray[np.int64]]:
    return [indices[start : start + batch_size] for start in range(0, len(indices), batch_size)]


def _clean(dataset: Dataset, split: Split, plan: BatchPlan) -> Batch:
    pixels = split.pixels(plan.indices, dataset.preprocess, plan.resolution)
    return torch.from_numpy(pixels), _targets(split, plan)


def _augmented(dataset: Dataset, split: Split, plan: BatchPlan) -> Batch:
    if dataset.augment is None:
        return _clean(dataset, split, plan)
    generator = torch.Generator().manual_seed(plan.seed)
    return dataset.augment(split.take(plan.indices), _targets(split, plan), plan.resolution, generator)


def _normalized(
    make: Callable[[Dataset, Split, BatchPlan], Batch], dataset: Dataset, split: Split, plan: BatchPlan
) -> Batch:
    pixels, targets = make(dataset, split, plan)
    return torch.from_numpy(dataset.preprocess.normalize(pixels.numpy())), targets


def _targets(split: Split, plan: BatchPlan) -> Tensor:
    return torch.from_numpy(split.targets[plan.indices])
