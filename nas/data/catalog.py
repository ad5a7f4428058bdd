"""Data sets by name, or a user's own as `module:object`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from nas import plugins
from nas.data import cifar, digits, image_folder
from nas.data.dataset import Dataset

DATASETS: Mapping[str, Callable[[Path | None, int], Dataset]] = {
    "digits": digits.load,
    "cifar10": cifar.load_cifar10,
    "cifar100": cifar.load_cifar100,
    "imagefolder": image_folder.load,
}
"""Factories, called with the folder of the files and the seed of the splits."""
FOR_IMPORTED: Mapping[str, Callable[[Path | None, int], Dataset]] = {
    "imagefolder": image_folder.load_for_imported,
}
"""Those that keep images apart that imported weights have not seen."""


def get(
    name: str,
    root: str | Path | None = None,
    split_seed: int = 0,
    *,
    imported_weights: bool = False,
    allow_import: bool = True,
) -> Dataset:
    """The data set of this name.

    Args:
        name: a key of `DATASETS`, or `module:object`: a factory as `Dataset` describes it.
        root: folder of the image files, for data sets that are not embedded.
        split_seed: draws the splits.
        imported_weights: the images are for weights that may have seen all training images; a user's own data
            set knows that by itself.
        allow_import: False where the name comes from a run's record, see `plugins.resolve`.

    Raises:
        ValueError: unknown name, missing files, or a user's object that does not satisfy `Dataset`.
    """
    factory = plugins.resolve(
        "dataset", name, FOR_IMPORTED if imported_weights else DATASETS, allow_import=allow_import
    )
    dataset = factory(None if root is None else Path(root), split_seed)
    plugins.check("dataset", name, dataset, Dataset)
    return dataset
