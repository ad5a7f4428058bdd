"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009), read from the unpacked files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torchvision.datasets import CIFAR10, CIFAR100

from nas.data.augment import RandomCropFlip
from nas.data.dataset import ImageDataset, ImageOnly, Split, stratified_split
from nas.data.preprocess import Preprocess

VALIDATION = 5_000
"""Size of the validation split, taken from the official 50,000 training images."""


def load_cifar10(root: Path | None, split_seed: int) -> ImageDataset:
    """CIFAR-10.

    Args:
        root: the folder that contains `cifar-10-batches-py`.
        split_seed: seed of the stratified validation split.

    Raises:
        ValueError: files are missing or damaged.
    """
    preprocess = Preprocess(mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616))
    return _load(CIFAR10, root, split_seed, preprocess)


def load_cifar100(root: Path | None, split_seed: int) -> ImageDataset:
    """CIFAR-100 with its 100 fine classes; arguments as in `load_cifar10`, the folder is `cifar-100-python`.

    Raises:
        ValueError: files are missing or damaged.
    """
    preprocess = Preprocess(mean=(0.5071, 0.4865, 0.4409), std=(0.2673, 0.2564, 0.2762))
    return _load(CIFAR100, root, split_seed, preprocess)


def _load(source: type[CIFAR10], root: Path | None, split_seed: int, preprocess: Preprocess) -> ImageDataset:
    official_train, test = _read(source, root, train=True), _read(source, root, train=False)
    labels = _labels(official_train)
    validation, train = stratified_split(labels, (VALIDATION,), split_seed)
    return ImageDataset(
        output_names=tuple(official_train.classes),
        preprocess=preprocess,
        augment=ImageOnly(RandomCropFlip(padding=4)),
        splits={
            "train": Split(official_train.data[train], labels[train]),
            "validation": Split(official_train.data[validation], labels[validation]),
            "test": Split(test.data, _labels(test)),
        },
    )


def _read(source: type[CIFAR10], root: Path | None, *, train: bool) -> CIFAR10:
    remedy = f"unpack {source.filename} there, so that it contains the folder {source.base_folder}"
    if root is None:
        raise ValueError(f"{source.__name__} needs a data root (data.root or --data-root): {remedy}")
    try:
        return source(root, train=train, download=False)
    except RuntimeError:  # missing files and wrong checksums
        raise ValueError(f"{root} does not contain the intact files of {source.__name__}: {remedy}") from None


def _labels(source: CIFAR10) -> NDArray[np.int64]:
    return np.array(source.targets, dtype=np.int64)
