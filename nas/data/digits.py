"""The embedded data set: 1,797 handwritten digits of 8×8 pixels, which are part of scikit-learn."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

from nas.data.augment import RandomAffine
from nas.data.dataset import ImageDataset, ImageOnly, Split, stratified_split
from nas.data.preprocess import Preprocess

VALIDATION, TEST = 540, 360
"""Sizes of the splits, 30 and 20 % of all images; 897 remain for training. With fewer validation images, the
ranking of subnets depends mostly on the choice of images."""

SHIFT_PIXELS = 0.5
"""Largest shift in pixels; larger values lower the accuracy of small subnets."""


@lru_cache(maxsize=8)
def load(root: Path | None, split_seed: int) -> ImageDataset:
    """The digits, with stratified splits: 50 % train, 30 % validation, 20 % test.

    Equal arguments return the same object, so that images are resized once per process.

    Args:
        root: must be None, because the images are embedded.
        split_seed: seed of the splits.

    Raises:
        ValueError: `root` is given.
    """
    if root is not None:
        raise ValueError(
            f"the data set digits is embedded and has no data root; leave out data.root or --data-root, "
            f"got {root}"
        )
    bunch = load_digits()
    images = np.round(bunch.images * (255 / 16)).astype(np.uint8)  # 17 shades of grey
    labels = bunch.target.astype(np.int64)
    validation, test, train = stratified_split(labels, (VALIDATION, TEST), split_seed)
    return ImageDataset(
        output_names=tuple(str(digit) for digit in range(10)),
        preprocess=Preprocess(mean=(0.305,), std=(0.376,)),  # of all pixels
        augment=ImageOnly(RandomAffine(SHIFT_PIXELS)),
        splits={
            "train": Split(images[train], labels[train]),
            "validation": Split(images[validation], labels[validation]),
            "test": Split(images[test], labels[test]),
        },
    )
