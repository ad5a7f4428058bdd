"""The batches that training, evaluation and batch-norm recalibration consume."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from nas.data.dataset import Dataset, Split, SplitName, stratified_order

MIN_CALIBRATION_IMAGES = 2
"""Images of a calibration batch: one value per channel has no variance."""
Batch = tuple[Tensor, Tensor]
"""Images float32 (n, channels, resolution, resolution), normalised, and labels int64 (n,)."""


def batches_per_epoch(dataset: Dataset, batch_size: int) -> int:
    """Batches of one epoch of `train_batches`, which drops an incomplete last one unless it is the first."""
    return max(1, len(dataset.split("train")) // batch_size)


def train_batches(
    dataset: Dataset,
    resolutions: Sequence[int],
    batch_size: int,
    generator: torch.Generator,
    *,
    order: NDArray[np.int64] | None = None,
    first: int = 0,
    rank: int = 0,
    ranks: int = 1,
    workers: int = 0,
) -> Iterator[Batch]:
    """One epoch of shuffled, augmented training images.

    Batch `i` depends on `i` and the generator's state at the call, neither on `first` nor on `workers`.

    Args:
        dataset: where the images come from.
        resolutions: each batch draws its size from these, the same on all ranks.
        batch_size: images of a batch, over all ranks together.
        generator: decides order, resolutions and augmentation; give equal ones on all ranks.
        order: indices of the images, some perhaps several times, instead of a random order of all.
        first: batches to skip, where training resumes inside an epoch.
        rank: the process that asks; it gets every `ranks`-th image of each batch.
        ranks: number of processes.
        workers: processes that load ahead, worth it for images that are read from files.
    """
    split = dataset.split("train")
    if order is None:
        order = torch.randperm(len(split), generator=generator).numpy()
    plan = _plan_epoch(order, resolutions, batch_size, generator, rank, ranks)
    return _load(partial(_augmented, dataset, split), plan[first:], workers)


def eval_batches(
    dataset: Dataset, split: SplitName, resolution: int, batch_size: int, *, workers: int = 0
) -> Iterator[Batch]:
    """All images of a split in order, clean: prepared by `dataset.preprocess` and nothing else."""
    images = dataset.split(split)
    steps = [_Step(part, resolution) for part in _parts(np.arange(len(images)), batch_size)]
    return _load(partial(_clean, dataset, images), steps, workers)


def calibration_batches(
    dataset: Dataset,
    n_images: int,
    resolution: int,
    batch_size: int,
    seed: int,
    *,
    augmented: bool = False,
    workers: int = 0,
) -> Iterator[Batch]:
    """Training images for batch-norm recalibration: a stratified sample that `seed` draws.

    Args:
        dataset: where the images come from.
        n_images: size of the sample, at least 2; all training images where there are fewer.
        resolution: side of the images, in pixels.
        batch_size: most images of a batch. The sample is spread evenly over as few batches as that allows,
            since the moments of a small last batch would be poor, and those of one image do not exist.
        seed: draws the sample, and the augmentation.
        augmented: as training sees them; else clean, as `eval_batches` prepares them.
        workers: processes that load ahead.

    Raises:
        ValueError: the sample has fewer than 2 images.
    """
    train = dataset.split("train")
    rng = np.random.default_rng(seed)
    sample = stratified_order(train.labels, rng)[:n_images]
    if len(sample) < MIN_CALIBRATION_IMAGES:
        raise ValueError(
            f"calibration needs >= {MIN_CALIBRATION_IMAGES} training images, got {len(sample)} "
            f"({len(train)} in the training split); add images or raise --calibration-images"
        )
    n_batches = min(math.ceil(len(sample) / batch_size), len(sample) // MIN_CALIBRATION_IMAGES)
    parts = np.array_split(sample, n_batches)
    steps = [_Step(part, resolution, int(rng.integers(2**62))) for part in parts]
    return _load(partial(_augmented if augmented else _clean, dataset, train), steps, workers)


@dataclass(frozen=True, slots=True)
class _Step:
    """What decides one batch."""

    indices: NDArray[np.int64]
    resolution: int
    seed: int = 0
    """Of the augmentation."""


def _plan_epoch(
    order: NDArray[np.int64],
    resolutions: Sequence[int],
    batch_size: int,
    generator: torch.Generator,
    rank: int,
    ranks: int,
) -> list[_Step]:
    n_batches = max(1, len(order) // batch_size)
    sizes = torch.randint(len(resolutions), (n_batches,), generator=generator)
    seeds = torch.randint(2**62, (n_batches, ranks), generator=generator)
    return [
        _Step(
            indices=order[i * batch_size : (i + 1) * batch_size][rank::ranks],
            resolution=resolutions[int(sizes[i])],
            seed=int(seeds[i, rank]),
        )
        for i in range(n_batches)
    ]


def _parts(indices: NDArray[np.int64], batch_size: int) -> list[NDArray[np.int64]]:
    return [indices[start : start + batch_size] for start in range(0, len(indices), batch_size)]


def _clean(dataset: Dataset, split: Split, step: _Step) -> Batch:
    pixels = split.pixels(step.indices, dataset.preprocess, step.resolution)
    return _tensor(dataset, pixels), torch.from_numpy(split.labels[step.indices])


def _augmented(dataset: Dataset, split: Split, step: _Step) -> Batch:
    if dataset.augment is None:
        return _clean(dataset, split, step)
    generator = torch.Generator().manual_seed(step.seed)
    pixels = dataset.augment(split.take(step.indices), step.resolution, generator)
    return _tensor(dataset, pixels.numpy()), torch.from_numpy(split.labels[step.indices])


def _tensor(dataset: Dataset, pixels: NDArray[np.uint8] | NDArray[np.float32]) -> Tensor:
    return torch.from_numpy(dataset.preprocess.normalize(pixels))


@dataclass(frozen=True, slots=True)
class _Batches:
    """Batches by index, as `DataLoader` wants them; each is made when it is asked for."""

    make: Callable[[_Step], Batch]
    steps: Sequence[_Step]

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, index: int) -> Batch:
        return self.make(self.steps[index])


def _load(make: Callable[[_Step], Batch], steps: Sequence[_Step], workers: int) -> Iterator[Batch]:
    if workers == 0:
        yield from map(make, steps)
        return
    batches: DataLoader[Batch] = DataLoader(
        _Batches(make, steps),  # type: ignore[arg-type]  # any object with a length and items will do
        batch_size=None,
        collate_fn=tuple,  # else the loader would turn our tuples into lists
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),  # copied to the GPU while it computes
        generator=torch.Generator(),  # else the loader would draw from the global one
    )
    yield from batches
