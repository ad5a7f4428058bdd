"""Batches of augmented training images for networks that are trained alone."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from nas.data.dataset import Dataset


def augmented_batches(
    data: Dataset, side: int, batch_size: int, rng: np.random.Generator, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """The images of an epoch in random order: normalized (n, channels, side, side) and their targets.

    Args:
        data: the data set, which has an augmentation.
        side: side of the images in pixels.
        batch_size: smallest size of a batch; all images are used.
        rng: random generator of the order.
        generator: random generator of the augmentation.
    """
    split = data.split("train")
    assert data.augment is not None
    for indices in np.array_split(rng.permutation(len(split)), len(split) // batch_size):
        targets = torch.from_numpy(split.targets[indices])
        pixels, targets = data.augment(split.take(indices), targets, side, generator)
        yield torch.from_numpy(data.preprocess.normalize(pixels.numpy())), targets
