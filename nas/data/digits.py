"""The embedded data set: 1,797 real handwritten digits of 8×8 pixels that ship inside scikit-learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

from nas.data.augment import RandomAffine
from nas.data.dataset import ImageDataset, Split, stratified_cut
from nas.data.preprocess import Preprocess

HELD_OUT = 360
"""Images of the validation split and of the test split, a fifth of all each; 1,077 remain for training."""


def load(root: Path | None, split_seed: int) -> ImageDataset:
    """The digits, stratified 60/20/20 % into train, validation and test.

    Args:
        root: not needed, the images are embedded.
        split_seed: draws the splits.
    """
    bunch = load_digits()
    images = np.round(bunch.images * (255 / 16)).astype(np.uint8)  # 17 shades of grey
    labels = bunch.target.astype(np.int64)
    validation, test, train = stratified_cut(labels, (HELD_OUT, HELD_OUT), split_seed)
    return ImageDataset(
        class_names=tuple(str(digit) for digit in range(10)),
        preprocess=Preprocess(mean=(0.305,), std=(0.376,)),  # of all pixels
        augment=RandomAffine(shift_pixels=0.5),  # of 8 pixels: larger ones cost the small subnets accuracy
        splits={
            "train": Split(images[train], labels[train]),
            "validation": Split(images[validation], labels[validation]),
            "test": Split(images[test], labels[test]),
        },
    )
