"""The embedded data set: 1,797 real handwritten digits of 8×8 pixels that ship inside scikit-learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

from nas.data.augment import RandomAffine
from nas.data.dataset import ImageDataset, ImageOnly, Split, stratified_cut
from nas.data.preprocess import Preprocess

VALIDATION, TEST = 540, 360
"""Images of these splits, three and two tenths of all; 897 remain for training. On fewer validation images,
the order of subnets says more about the images than about the subnets."""

SHIFT_PIXELS = 0.5
"""Of 8: larger shifts cost the small subnets accuracy."""
SHIFT_PIXELS = 0.5
"""Of 8: larger shifts cost the small subnets accuracy."""


def load(root: Path | None, split_seed: int) -> ImageDataset:
    """The digits, stratified 50/30/20 % into train, validation and test.

    Args:
        root: must be None, the images are embedded.
        split_seed: draws the splits.

    Raises:
        ValueError: a root is given.
    """
    if root is not None:
        raise ValueError(
            f"the data set digits is embedded and has no folder; leave out data_root, got {root}"
        )
    bunch = load_digits()
    images = np.round(bunch.images * (255 / 16)).astype(np.uint8)  # 17 shades of grey
    labels = bunch.target.astype(np.int64)
    validation, test, train = stratified_cut(labels, (VALIDATION, TEST), split_seed)
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
