"""Random training images without augmentation."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from nas.data.dataset import Dataset

BATCH = 64
"""Images per batch."""


def clean_images(
    dataset: Dataset, resolution: int, n_images: int, rng: np.random.Generator, device: torch.device
) -> list[tuple[Tensor, Tensor]]:
    """Batches of random training images without augmentation, with their targets.

    Args:
        dataset: the data set.
        resolution: side of the images, in pixels.
        n_images: number of images; all if there are fewer.
        rng: chooses the images.
        device: device of the result.
    """
    split, preprocess = dataset.split("train"), dataset.preprocess
    order = rng.permutation(len(split))[:n_images]
    batches = []
    for start in range(0, len(order), BATCH):
        indices = order[start : start + BATCH]
        x = preprocess.normalize(split.pixels(indices, preprocess, resolution))
        targets = split.targets[indices]
        batches.append((torch.from_numpy(x).to(device), torch.from_numpy(targets).to(device)))
    return batches
