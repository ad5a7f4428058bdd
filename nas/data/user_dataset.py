"""Custom data sets, whose values are checked as soon as the custom code returns them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nas import plugins
from nas.data.dataset import Augment, Dataset, ImageDataset, Split, SplitName
from nas.data.preprocess import Preprocess, RawImage
from search_spaces.checked import errors_of
from search_spaces.errors import first_names

if TYPE_CHECKING:
    from torch import Generator, Tensor

IMAGE_RULE = "must be a Pillow image or a uint8 array of shape (height, width) or (height, width, 3)"


def make_checked(name: str, factory: Callable[[], object]) -> ImageDataset:
    """The data set that a custom factory makes, with targets as int64 or float32.

    Images that are made on demand are checked at that time, everything else is checked now.

    Args:
        name: `module:object`, for messages.
        factory: makes the data set.

    Raises:
        ValueError: the factory raises an error, or a value is invalid.
    """
    source = f"the data set {name!r}"
    with errors_of(source):
        dataset = factory()
    plugins.check("dataset", name, dataset, Dataset)
    assert isinstance(dataset, Dataset)
    with errors_of(source):
        names, preprocess, augment = dataset.output_names, dataset.preprocess, dataset.augment
        splits = {split: dataset.split(split) for split in get_args(SplitName)}
    if not isinstance(preprocess, Preprocess):
        raise ValueError(f"{source} must have a Preprocess as `preprocess`, got {_kind(preprocess)}")
    if augment is not None and not callable(augment):
        raise ValueError(f"{source} must have None or a callable as `augment`, got {_kind(augment)}")
    return ImageDataset(
        output_names=_output_names(source, names),
        preprocess=preprocess,
        augment=None if augment is None else CheckedAugment(source, augment, preprocess.channels),
        splits={name: _split(f"{source}, split {name!r}", split) for name, split in splits.items()},
    )


@dataclass(frozen=True, eq=False)
class CheckedImages(Sequence[RawImage]):
    """Images of a custom data set that are made on demand."""

    source: str
    """Name of the split, for messages."""
    images: Sequence[RawImage]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> RawImage:  # type: ignore[override]  # no slices
        with errors_of(f"{self.source}, image {index}"):
            image: object = self.images[int(index)]
        if isinstance(image, Image.Image):
            return image
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or not _is_image(image.shape):
            raise ValueError(f"{self.source}, image {index} {IMAGE_RULE}, got {_kind(image)}")
        return image


@dataclass(frozen=True, eq=False)
class CheckedAugment:
    """The augmentation of a custom data set."""

    source: str
    """Name of the data set, for messages."""
    augment: Augment
    channels: int

    def __call__(
        self, images: Sequence[RawImage], targets: Tensor, resolution: int, generator: Generator
    ) -> tuple[Tensor, Tensor]:
        """See `Augment`."""
        images = list(images)  # so that errors in reading images do not count as errors of `augment`
        with errors_of(f"the `augment` of {self.source}"):
            x, y = self.augment(images, targets, resolution, generator)
        shape = (len(images), self.channels, resolution, resolution)
        import torch

        is_image = isinstance(x, torch.Tensor) and (x.dtype == torch.uint8 or x.is_floating_point())
        if not is_image or x.shape != shape:
            raise ValueError(
                f"the `augment` of {self.source} must return uint8 or floats of shape {shape}, got {_kind(x)}"
            )
        if not isinstance(y, torch.Tensor) or len(y) != len(images):
            raise ValueError(
                f"the `augment` of {self.source} must return a target for each of {len(images)} images, got "
                f"{_kind(y)}"
            )
        return x, y


def _output_names(source: str, names: object) -> tuple[str, ...]:
    values = [] if isinstance(names, str) or not isinstance(names, Sequence) else list(names)
    if not values or not all(isinstance(name, str) and name for name in values):
        raise ValueError(f"{source} must have a tuple of names as `output_names`, got {names!r:.100}")
    repeated = sorted({name for name in values if values.count(name) > 1})
    if repeated:
        raise ValueError(f"{source} must name each output once, it repeats {first_names(repeated)}")
    return tuple(values)


def _split(source: str, split: object) -> Split:
    if not isinstance(split, Split):
        raise ValueError(f"{source} must be a Split, got {_kind(split)}")
    if len(split.images) != len(split.targets) or len(split.targets) == 0:
        raise ValueError(
            f"{source} must have images and one target for each, got {len(split.images)} images and "
            f"{len(split.targets)} targets"
        )
    targets = _targets(source, split.targets)
    if not isinstance(split.images, np.ndarray):
        return Split(CheckedImages(source, split.images), targets)
    if split.images.dtype != np.uint8 or not _is_image(split.images.shape[1:]):
        raise ValueError(f"{source}: each image {IMAGE_RULE}, got {_kind(split.images[0])}")
    return Split(split.images, targets)


def _targets(source: str, values: object) -> NDArray[Any]:
    targets = np.asarray(values)
    if targets.dtype.kind not in "iuf":
        raise ValueError(f"{source} must have numbers as targets, got {_kind(targets)}")
    if not np.isfinite(targets).all():
        raise ValueError(f"{source} must have finite numbers as targets, got NaN or infinite ones")
    return targets.astype(np.float32 if targets.dtype.kind == "f" else np.int64)


def _is_image(shape: tuple[int, ...]) -> bool:
    return (len(shape) == 2 or (len(shape) == 3 and shape[2] == 3)) and min(shape) > 0


def _kind(value: object) -> str:
    """Description of a value for messages: `float64 of shape (8, 8)`, `list`, `None`."""
    if value is None:
        return "None"
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return f"{value.dtype} of shape {tuple(value.shape)}"
    return type(value).__name__
