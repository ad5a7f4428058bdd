"""Image files in one folder per class, read when they are needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
"""Images of the validation split at most, as many as the published supernets held out of ImageNet."""


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
    root = _existing(root)
    if _has_imagenet_layout(root):
        classes, train, test = _scan_imagenet_layout(root)
        validation, rest = stratified_cut(train.labels, (min(_tenth(train), MAX_VALIDATION),), split_seed)
        return _dataset(classes, _part(train, rest), _part(train, validation), test)
    return _one_folder(root, split_seed)


def load_for_imported(
    root: Path | None,
    split_seed: int,
    *,
    validation_images: int = MAX_VALIDATION,
    classes: Sequence[str] = (),
) -> ImageDataset:
    """Images in ImageNet's layout for weights that were trained elsewhere and may have seen all of `train/`.

    No image of `train/` tells how good such weights are. So validation is a stratified part of `val/`, test
    is the rest, and `train/` is for BN recalibration.

    Args:
        root: folder of `train` and `val`.
        split_seed: draws the splits.
        validation_images: of the validation split, at most half of `val/`.
        classes: the class folders that the labels 0, 1, … mean, of which some may be missing here; none:
            those that are here, in the order of their names.

    Raises:
        ValueError: as `load`, the folder has another layout, or it has a class that is not in `classes`.
    """
    root = _existing(root)
    if not _has_imagenet_layout(root):
        raise ValueError(
            f"for imported weights data_root must have the folders train and val, as ImageNet has them; else "
            f"nobody knows which images they have not seen; got {root}"
        )
    names, train, val = _scan_imagenet_layout(root, classes)
    cut = (min(len(val) // 2, validation_images),)
    validation, test = stratified_cut(val.labels, cut, split_seed)
    return _dataset(names, train, _part(val, validation), _part(val, test))


def file_names(split: Split, root: Path) -> list[str]:
    """The files of a split of `load` or `load_for_imported`, in order, relative to `root`."""
    assert isinstance(split.images, ImageFiles)
    return [Path(path).relative_to(root).as_posix() for path in split.images.paths]


def _existing(root: Path | None) -> Path:
    if root is None:
        raise ValueError("imagefolder needs data_root, a folder with one folder of images per class")
    if not root.is_dir():
        raise ValueError(f"data_root must be a folder with one folder of images per class, got {root}")
    return root


def _has_imagenet_layout(root: Path) -> bool:
    return (root / "train").is_dir() and (root / "val").is_dir()


def _one_folder(root: Path, split_seed: int) -> ImageDataset:
    classes = _class_folders(root)
    files = _scan(root, {name: i for i, name in enumerate(classes)})
    held_out = _tenth(files)
    validation, test, train = stratified_cut(files.labels, (held_out, held_out), split_seed)
    return _dataset(classes, _part(files, train), _part(files, validation), _part(files, test))


def _scan_imagenet_layout(root: Path, classes: Sequence[str] = ()) -> tuple[Sequence[str], Split, Split]:
    """Class names, and all images of `train/` and of `val/`."""
    folders, val_folders = (_class_folders(root / name) for name in ("train", "val"))
    if val_folders != folders:
        different = sorted(set(folders) ^ set(val_folders))
        raise ValueError(
            f"{root}: train and val must have the same class folders, only one has {', '.join(different)}"
        )
    unknown = sorted(set(folders) - set(classes)) if classes else []
    if unknown:
        raise ValueError(
            f"{root}: the class folders must be in the list of {len(classes)} classes, "
            f"{len(unknown)} are not: {', '.join(unknown[:10])}"
        )
    names = classes or folders
    indices = {name: i for i, name in enumerate(names) if name in folders}
    return names, _scan(root / "train", indices), _scan(root / "val", indices)


def _dataset(classes: Sequence[str], train: Split, validation: Split, test: Split) -> ImageDataset:
    return ImageDataset(
        class_names=tuple(classes),
        preprocess=Preprocess(mean=IMAGENET_MEAN, std=IMAGENET_STD, crop_fraction=0.875),
        augment=RandomResizedCrop(),
        splits={"train": train, "validation": validation, "test": test},
    )


def _class_folders(folder: Path) -> list[str]:
    try:
        classes: list[str] = find_classes(folder)[0]
    except FileNotFoundError as error:
        raise _no_images(folder, error) from None
    return classes


def _scan(folder: Path, class_to_index: Mapping[str, int]) -> Split:
    """All images of these classes below `folder`."""
    try:
        samples = make_dataset(str(folder), dict(class_to_index), extensions=IMG_EXTENSIONS)
    except FileNotFoundError as error:
        raise _no_images(folder, error) from None
    paths, labels = zip(*samples, strict=True)
    return Split(ImageFiles(paths), np.array(labels, dtype=np.int64))


def _no_images(folder: Path, error: FileNotFoundError) -> ValueError:
    return ValueError(f"{folder} must hold one folder of images per class: {error}")


def _tenth(files: Split) -> int:
    if len(files) < 3:
        raise ValueError(f"three splits need at least 3 images, got {len(files)}")
    return -(-len(files) // 10)


def _part(files: Split, indices: NDArray[np.int64]) -> Split:
    assert isinstance(files.images, ImageFiles)
    return Split(ImageFiles([files.images.paths[i] for i in indices]), files.labels[indices])
