"""Fashion-MNIST (Xiao et al. 2017): 70,000 grey images of clothes in 10 classes."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nas.data.augment import RandomCropFlip
from nas.data.dataset import ImageDataset, ImageOnly, Split, stratified_split
from nas.data.preprocess import Preprocess

VALIDATION = 5_000
"""Size of the validation split, taken from the official 60,000 training images."""
SIDE = 28
CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
LAYOUTS = (".", "FashionMNIST/raw", "fashion-mnist")
"""Folders relative to the data root that may contain the files: the root itself, and the folders that
torchvision and Debian create."""
_REMEDY = (
    "put train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte "
    "there, plain or as .gz (Debian's package dataset-fashion-mnist installs them to /usr/share/datasets)"
)
_UINT8_MAGIC = b"\0\0\x08"


def load(root: Path | None, split_seed: int) -> ImageDataset:
    """Fashion-MNIST with the official test split and a validation split from the training images.

    Args:
        root: a folder with the four IDX files, plain or gzipped, in one of `LAYOUTS`.
        split_seed: seed of the stratified validation split.

    Raises:
        ValueError: files are missing or damaged.
    """
    if root is None:
        raise ValueError(f"fashion-mnist needs a data root (data.root or --data-root): {_REMEDY}")
    images, labels = _read(root, "train")
    test_images, test_labels = _read(root, "t10k")
    if len(images) <= VALIDATION:
        raise ValueError(
            f"{root} must have more training images than the {VALIDATION} of the validation split, got "
            f"{len(images)}: {_REMEDY}"
        )
    validation, train = stratified_split(labels, (VALIDATION,), split_seed)
    return ImageDataset(
        output_names=CLASSES,
        preprocess=Preprocess(mean=(0.2860,), std=(0.3530,)),  # of all pixels of the training images
        augment=ImageOnly(RandomCropFlip(padding=2)),
        splits={
            "train": Split(images[train], labels[train]),
            "validation": Split(images[validation], labels[validation]),
            "test": Split(test_images, test_labels),
        },
    )


def _read(root: Path, part: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    image_file, label_file = (
        _find(root, f"{part}-images-idx3-ubyte"),
        _find(root, f"{part}-labels-idx1-ubyte"),
    )
    images, labels = _read_idx(image_file), _read_idx(label_file)
    if images.shape[1:] != (SIDE, SIDE):
        size = "x".join(str(side) for side in images.shape[1:])
        raise ValueError(f"{image_file} must contain images of {SIDE}x{SIDE} pixels, got images of {size}")
    if labels.shape != images.shape[:1]:
        raise ValueError(
            f"{label_file} must contain one label for each of the {len(images)} images in {image_file}, "
            f"got {len(labels)}"
        )
    if labels.max(initial=0) >= len(CLASSES):
        raise ValueError(f"{label_file} must contain labels below {len(CLASSES)}, got {labels.max()}")
    return images, labels.astype(np.int64)


def _find(root: Path, name: str) -> Path:
    for layout in LAYOUTS:
        for suffix in ("", ".gz"):
            path = root / layout / f"{name}{suffix}"
            if path.is_file():
                return path
    raise ValueError(f"{root} does not contain {name} of Fashion-MNIST: {_REMEDY}")


def _read_idx(path: Path) -> NDArray[np.uint8]:
    """The array in an IDX file: 2 zeros, type, number of axes, their sizes (big-endian), data."""
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"cannot read {path} ({error}): {_REMEDY}") from None
    n_axes = content[3] if content[:3] == _UINT8_MAGIC else 0
    start = 4 + 4 * n_axes
    shape = tuple(int.from_bytes(content[i : i + 4], "big") for i in range(4, start, 4))
    if not n_axes or len(content) != start + math.prod(shape):
        raise ValueError(f"{path} is damaged or not an IDX file: {_REMEDY}")
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape)
