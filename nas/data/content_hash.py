"""A fingerprint of data sets that are not image folders."""

from __future__ import annotations

import hashlib
from typing import get_args

import numpy as np

from nas.data.dataset import Dataset, Split, SplitName

MAX_BYTES = 2**30
"""Larger arrays are not hashed completely: evenly spaced images are sampled."""
SAMPLE = 16
"""Number of images that are hashed per split if the split makes its images on demand."""


def content_hash(dataset: Dataset) -> str:
    """16 hex digits that depend on the targets, the splits and the images.

    If images are made on demand, only a sample from validation and test is hashed: training images may differ
    between calls.
    """
    total = hashlib.blake2b(digest_size=8)
    for name in get_args(SplitName):
        split = dataset.split(name)
        total.update(f"{name} {len(split)}\n".encode())
        little_endian = split.targets.dtype.newbyteorder("<")
        total.update(np.ascontiguousarray(split.targets, dtype=little_endian).tobytes())
        for array in _arrays(split, sampled=name != "train"):
            total.update(f"{array.dtype} {array.shape}\n".encode())
            total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()


def _arrays(split: Split, *, sampled: bool) -> list[np.ndarray]:
    """The arrays to hash from the images of a split."""
    images = split.images
    if isinstance(images, np.ndarray):
        return [images[:: max(1, -(-images.nbytes // MAX_BYTES))]]
    if not sampled:
        return []
    places = np.unique(np.linspace(0, len(images) - 1, SAMPLE).round().astype(int))
    return [np.asarray(images[int(i)]) for i in places]
