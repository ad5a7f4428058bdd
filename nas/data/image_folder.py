"""Image files in one folder per class, read when they are needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torchvision.datasets.folder import IMG_EXTENSIONS, find_classes, make_dataset

from nas.data.augment import RandomResizedCrop
from nas.data.dataset import ImageDataset, Split, stratified_cut
from nas.data.preprocess import Preprocess, RawImage

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
MAX_VALIDATION = 10_000
"""Images that are held out of `train/` at most, as the published supernets did on ImageNet."""


@dataclass(frozen=True, eq=False)
class ImageFiles(Sequence[RawImage]):
    """Images that are opened when asked for."""

    paths: Sequence[str]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Image.Image:  # type: ignore[override]  # nobody slices it
        try:
            with Image.open(self.paths[index]) as image:
                return image.convert("RGB")
        except OSError as error:
            raise ValueError(f"cannot read the image {self.paths[index]}: {error}") from None


def load(root: Path | None, split_seed: int) -> ImageDataset:
    """Any images, as RGB, in one of two layouts.

    `root/CLASS/…`: stratified 80/10/10 % into train, validation and test.
    `root/train/CLASS/…` and `root/val/CLASS/…`, as ImageNet has them: test is all of `val/`, validation a
    stratified tenth of `train/`, 10,000 images at most.

    Args:
        root: folder of the class folders, or of `train` and `val`.
        split_seed: draws the splits.

    Raises:
        ValueError: missing folders, a class without images, fewer than 3 images, or class folders of `val/`
            that differ from those of `train/`.
    """
    if root is None:
        raise ValueError("imagefolder needs data_root, a folder with one folder of images per class")
    if not root.is_dir():
        raise ValueError(f"data_root must be a folder with one folder of images per class, got {root}")
    if (root / "train").is_dir() and (root / "val").is_dir():
        return _imagenet_layout(root, split_seed)
    return _one_folder(root, split_seed)


def _one_folder(root: Path, split_seed: int) -> ImageDataset:
    classes, files = _scan(root)
    held_out = _tenth(files)
    validation, test, train = stratified_cut(files.labels, (held_out, held_out), split_seed)
    return _dataset(classes, _part(files, train), _part(files, validation), _part(files, test))


def _imagenet_layout(root: Path, split_seed: int) -> ImageDataset:
    classes, files = _scan(root / "train")
    test_classes, test = _scan(root / "val")
    if test_classes != classes:
        different = sorted(set(classes) ^ set(test_classes))
        raise ValueError(
            f"{root}: train and val must have the same class folders, only one has {', '.join(different)}"
        )
    validation, train = stratified_cut(files.labels, (min(_tenth(files), MAX_VALIDATION),), split_seed)
    return _dataset(classes, _part(files, train), _part(files, validation), test)


def _dataset(classes: Sequence[str], train: Split, validation: Split, test: Split) -> ImageDataset:
    return ImageDataset(
        class_names=tuple(classes),
        preprocess=Preprocess(mean=IMAGENET_MEAN, std=IMAGENET_STD, crop_fraction=0.875),
        augment=RandomResizedCrop(),
        splits={"train": train, "validation": validation, "test": test},
    )


def _scan(folder: Path) -> tuple[list[str], Split]:
    """Class names and all images below `folder`."""
    try:
        classes, class_to_index = find_classes(folder)
        samples = make_dataset(str(folder), class_to_index, extensions=IMG_EXTENSIONS)
    except FileNotFoundError as error:
        raise ValueError(f"{folder} must hold one folder of images per class: {error}") from None
    paths, labels = zip(*samples, strict=True)
    return classes, Split(ImageFiles(paths), np.array(labels, dtype=np.int64))


def _tenth(files: Split) -> int:
    if len(files) < 3:
        raise ValueError(f"three splits need at least 3 images, got {len(files)}")
    return -(-len(files) // 10)


def _part(files: Split, indices: NDArray[np.int64]) -> Split:
    assert isinstance(files.images, ImageFiles)
    return Split(ImageFiles([files.images.paths[i] for i in indices]), files.labels[indices])
