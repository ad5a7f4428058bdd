"""Image files in one folder per class, read on demand."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nas.data import image_file
from nas.data.augment import RandomResizedCrop
from nas.data.dataset import ImageDataset, ImageOnly, Split, SplitName, stratified_split
from nas.data.folder_layout import Classes, Layout, read_layout
from nas.data.hashed_split import hashed_split
from nas.data.image_scan import scan, visible_folders
from nas.data.preprocess import Preprocess, RawImage
from search_spaces.errors import first_names

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
GREY_MEAN, GREY_STD = (0.449,), (0.226,)
"""Mean and standard deviation of grey images: the averages of the values for RGB."""
HELD_OUT_SHARE = 0.1
MAX_VALIDATION = 10_000
"""Largest size of the validation split; the published supernets held out as many images of ImageNet."""


@dataclass(frozen=True, eq=False)
class ImageFiles(Sequence[RawImage]):
    """Images that are opened on demand."""

    paths: Sequence[str]
    channels: int = 3
    """1 for grey, 3 for RGB."""

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Image.Image:  # type: ignore[override]  # no slices
        return image_file.converted(image_file.read(self.paths[index]), "L" if self.channels == 1 else "RGB")


def load(root: Path | None, split_seed: int, *, channels: int = 3) -> ImageDataset:
    """Images in one of these layouts; `folder_layout.SPLIT_FOLDERS` lists other names of `val`.

    - `root/CLASS/…`: about 80/10/10 % of each class into train, validation and test; at least 3 images per
      class.
    - `root/train/CLASS/…`, `root/val/CLASS/…` and `root/test/CLASS/…`: the three splits.
    - `root/train/CLASS/…` and one of `val` and `test`, as ImageNet has them: test is all of that folder,
      validation about a tenth of each class of `train/`, or less if that were more than 10,000 images; at
      least 2 images per class in `train/`.

    The split of an image is determined by a hash of its name, so adding or removing other images does not
    change it.

    A class folder may contain folders. Other files, hidden files and folders, and a `test` folder without
    class folders are left out; `left_out` of the data set counts them.

    Args:
        root: folder of the class folders, or of the split folders.
        split_seed: seed of the splits.
        channels: 1 to read the images as grey, 3 as RGB.

    Raises:
        ValueError: another layout, fewer than two classes, a class with too few images, or split folders with
            different classes.
    """
    root = _existing(root)
    layout = read_layout(root)
    if not layout.splits:
        return _one_folder(root, layout, split_seed, channels)
    _check_same_classes(root, layout)
    classes = list(layout.splits["train"])
    _check_classes(root, layout.splits["train"])
    splits = {name: _files(root, files, classes, channels) for name, files in layout.splits.items()}
    if len(splits) == 3:
        return _dataset(classes, splits["train"], splits["validation"], splits["test"], layout.left_out)
    train, test = splits.values()
    _check_at_least(root, layout.splits["train"], 2)
    share = HELD_OUT_SHARE
    while share * len(train) > MAX_VALIDATION:
        share /= 2  # a share that depended on the number of images would move other images
    validation, others = hashed_split(file_names(train, root), train.targets, [share], split_seed)
    return _dataset(classes, _part(train, others), _part(train, validation), test, layout.left_out)


def load_for_imported(
    root: Path | None,
    split_seed: int,
    *,
    validation_images: int = MAX_VALIDATION,
    classes: Sequence[str] = (),
) -> ImageDataset:
    """Images with split folders for imported weights, which may have been trained on all of `train/`.

    Such weights must not be evaluated on images of `train/`. Therefore validation is a stratified part of
    `val/`, test is the other part or, if it exists, all of `test/`, and `train/` is for BN recalibration.

    Args:
        root: folder of `train` and `val`.
        split_seed: seed of the splits.
        validation_images: size of the validation split, at most half of `val/` if there is no `test/`.
        classes: names of the class folders for the labels 0, 1, …; some of the folders may be missing. Empty:
            the class folders in `root`, in the order of their names.

    Raises:
        ValueError: as `load`, the folder has another layout, or it has a class that is not in `classes`.
    """
    root = _existing(root)
    layout = read_layout(root)
    if not layout.splits:
        raise ValueError(
            f"for imported weights the data root must contain the folders train and val, as for ImageNet, "
            f"because the weights may have been trained on any other image; got {root}"
        )
    _check_same_classes(root, layout)
    folders = list(layout.splits["train"])
    unknown = sorted(set(folders) - set(classes)) if classes else []
    if unknown:
        raise ValueError(
            f"{root}: the class folders must be in the list of {len(classes)} classes, "
            f"{len(unknown)} are not: {first_names(unknown)}"
        )
    names = classes or folders
    splits = {name: _files(root, files, names) for name, files in layout.splits.items()}
    train, held_out = list(splits.values())[:2]
    limit = len(held_out) if len(splits) == 3 else len(held_out) // 2
    validation, others = stratified_split(held_out.targets, (min(limit, validation_images),), split_seed)
    test = splits["test"] if len(splits) == 3 else _part(held_out, others)
    return _dataset(names, train, _part(held_out, validation), test, layout.left_out)


def file_names(split: Split, root: Path) -> list[str]:
    """The files of a split of `load` or `load_for_imported`, in order, relative to `root`.

    `root` may be another form of the path that the split was loaded with, for example the absolute path.
    """
    assert isinstance(split.images, ImageFiles)
    start = os.path.abspath(root)
    return [Path(os.path.abspath(path)).relative_to(start).as_posix() for path in split.images.paths]


def of_files(
    root: Path, classes: Sequence[str], files: Iterable[tuple[SplitName, str, int]], channels: int
) -> ImageDataset:
    """The data set of these files, each given as split, name relative to `root` and label."""
    paths: dict[SplitName, list[str]] = {name: [] for name in get_args(SplitName)}
    labels: dict[SplitName, list[int]] = {name: [] for name in paths}
    for split, file, label in files:
        paths[split].append(str(root / file))
        labels[split].append(label)
    splits = {
        name: Split(ImageFiles(paths[name], channels), np.array(labels[name], dtype=np.int64))
        for name in paths
    }
    return _dataset(classes, splits["train"], splits["validation"], splits["test"])


def image_names(root: Path, splits: Collection[str] = ()) -> list[str]:
    """All images in class folders, relative to `root`, with `/`.

    Args:
        root: folder of the class folders, or of the split folders.
        splits: names of the split folders, if there are any.
    """
    files = scan(root, sorted(splits) or visible_folders(root))
    depth = 2 if splits else 1
    return [name for name in files.images if name.count("/") >= depth]


def _existing(root: Path | None) -> Path:
    if root is None:
        raise ValueError(
            "imagefolder needs a data root (data.root or --data-root) with one folder of images per class"
        )
    if not root.is_dir():
        raise ValueError(f"the data root must be a folder with one folder of images per class, got {root}")
    return root


def _one_folder(root: Path, layout: Layout, split_seed: int, channels: int) -> ImageDataset:
    classes = list(layout.classes)
    _check_classes(root, layout.classes)
    _check_at_least(root, layout.classes, 3)
    files = _files(root, layout.classes, classes, channels)
    validation, test, train = hashed_split(
        file_names(files, root), files.targets, [HELD_OUT_SHARE, HELD_OUT_SHARE], split_seed
    )
    return _dataset(
        classes, _part(files, train), _part(files, validation), _part(files, test), layout.left_out
    )


def _check_classes(root: Path, classes: Classes) -> None:
    if len(classes) < 2:
        raise ValueError(
            f"{root}: at least 2 classes are needed, each a folder of images; got only the folder "
            f"{', '.join(classes)}; if its folders are the classes, make it the data root"
        )


def _check_at_least(root: Path, classes: Classes, count: int) -> None:
    few = [f"{name} ({len(files)})" for name, files in classes.items() if len(files) < count]
    if few:
        raise ValueError(
            f"{root}: each class needs at least {count} images, so that they can be split; too few: "
            f"{first_names(few)}"
        )


def _check_same_classes(root: Path, layout: Layout) -> None:
    train = layout.splits["train"]
    for name, classes in layout.splits.items():
        different = sorted(set(train) ^ set(classes))
        if different:
            raise ValueError(
                f"{root}: train and {name} must have the same class folders, only one has "
                f"{first_names(different)}"
            )


def _files(root: Path, classes: Classes, names: Sequence[str], channels: int = 3) -> Split:
    """All images of these classes; labels are indices of `names`."""
    index = {name: i for i, name in enumerate(names)}
    paths = [str(root / file) for files in classes.values() for file in files]
    labels = np.repeat([index[name] for name in classes], [len(files) for files in classes.values()])
    return Split(ImageFiles(paths, channels), labels.astype(np.int64))


def _dataset(
    classes: Sequence[str], train: Split, validation: Split, test: Split, left_out: str = ""
) -> ImageDataset:
    assert isinstance(train.images, ImageFiles)
    grey = train.images.channels == 1
    mean, std = (GREY_MEAN, GREY_STD) if grey else (IMAGENET_MEAN, IMAGENET_STD)
    return ImageDataset(
        output_names=tuple(classes),
        preprocess=Preprocess(mean=mean, std=std, crop_fraction=0.875),
        augment=ImageOnly(RandomResizedCrop()),
        splits={"train": train, "validation": validation, "test": test},
        left_out=left_out,
    )


def _part(files: Split, indices: NDArray[np.int64]) -> Split:
    assert isinstance(files.images, ImageFiles)
    paths = [files.images.paths[i] for i in indices]
    return Split(ImageFiles(paths, files.images.channels), files.targets[indices])
