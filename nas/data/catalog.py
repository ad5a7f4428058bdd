"""Data sets by name, or custom ones as `module:object`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from nas import plugins
from nas.data import cifar, digits, fashion_mnist, image_folder
from nas.data.dataset import Dataset
from nas.data.user_dataset import make_checked

Factory = Callable[[Path | None, int], Dataset]

DATASETS: Mapping[str, Factory] = {
    "digits": digits.load,
    "cifar10": cifar.load_cifar10,
    "cifar100": cifar.load_cifar100,
    "fashion-mnist": fashion_mnist.load,
    "imagefolder": image_folder.load,
    "imagefolder-grey": partial(image_folder.load, channels=1),
}
"""Factories, called with the folder of the files and the seed of the splits."""


def get(
    name: str, root: str | Path | None = None, split_seed: int = 0, *, allow_import: bool = False
) -> Dataset:
    """The data set with this name.

    Args:
        name: a key of `DATASETS`, or `module:object`: a factory as `Dataset` describes it.
        root: folder of the image files; None for embedded data sets.
        split_seed: seed of the splits.
        allow_import: whether `module:object` may be imported, see `plugins.resolve`.

    Raises:
        ValueError: unknown name, missing files, or a custom object that does not satisfy `Dataset`.
    """
    return _make(DATASETS, name, root, split_seed, allow_import)


def for_channels(name: str, channels: int) -> str:
    """The name of the variant of a data set with this number of input channels.

    Only image folders have variants, because their images can be read as grey or as RGB.
    """
    return "imagefolder-grey" if name == "imagefolder" and channels == 1 else name


def get_for_imported(
    name: str,
    root: str | Path | None,
    split_seed: int,
    *,
    validation_images: int = image_folder.MAX_VALIDATION,
    classes: Sequence[str] = (),
    allow_import: bool = False,
) -> Dataset:
    """The data set with this name for imported weights, which may have been trained on all training images.

    Validation and test images of `imagefolder` are therefore not taken from the training images. The other
    data sets have their usual splits. A custom data set must take care of this itself.

    Args:
        name: as in `get`, except `imagefolder-grey`.
        root: as in `get`.
        split_seed: as in `get`.
        validation_images: as in `image_folder.load_for_imported`.
        classes: as in `image_folder.load_for_imported`.
        allow_import: as in `get`.

    Raises:
        ValueError: as `get`.
    """
    load = partial(image_folder.load_for_imported, validation_images=validation_images, classes=classes)
    usual = {key: factory for key, factory in DATASETS.items() if not key.startswith("imagefolder")}
    return _make({**usual, "imagefolder": load}, name, root, split_seed, allow_import)


def _make(
    table: Mapping[str, Factory], name: str, root: str | Path | None, split_seed: int, allow_import: bool
) -> Dataset:
    factory = plugins.resolve("dataset", name, table, allow_import=allow_import)
    folder = None if root is None else Path(root)
    if name in table:
        return factory(folder, split_seed)
    return make_checked(name, partial(factory, folder, split_seed))
