"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009), from files that the user has unpacked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torchvision.datasets import CIFAR10, CIFAR100

from nas.data.augment import RandomCropFlip
from nas.data.dataset import ImageDataset, ImageOnly, Split, stratified_cut
from nas.data.preprocess import Preprocess

VALIDATION = 5_000
"""Images that are held out of the official 50,000 for training; the test split is the official one."""


def load_cifar10(root: Path | None, split_seed: int) -> ImageDataset:
    """CIFAR-10.

    Args:
        root: the folder that holds `cifar-10-batches-py`.
        split_seed: draws the validation split, stratified.

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
    seen, test = _read(source, root, train=True), _read(source, root, train=False)
    labels = _labels(seen)
    validation, train = stratified_cut(labels, (VALIDATION,), split_seed)
    return ImageDataset(
        output_names=tuple(seen.classes),
        preprocess=preprocess,
        augment=ImageOnly(RandomCropFlip(padding=4)),
        splits={
            "train": Split(seen.data[train], labels[train]),
            "validation": Split(seen.data[validation], labels[validation]),
            "test": Split(test.data, _labels(test)),
        },
    )


def _read(source: type[CIFAR10], root: Path | None, *, train: bool) -> CIFAR10:
    remedy = f"unpack {source.filename} there, so that it holds the folder {source.base_folder}"
    if root is None:
        raise ValueError(f"{source.__name__} needs data_root, the folder of its files: {remedy}")
    try:
        return source(root, train=train, download=False)
    except RuntimeError:  # torchvision's word for missing files and wrong checksums
        raise ValueError(f"{root} has no intact files of {source.__name__}: {remedy}") from None


def _labels(source: CIFAR10) -> NDArray[np.int64]:
    return np.array(source.targets, dtype=np.int64)
