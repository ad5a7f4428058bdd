"""Data sets: images with targets, splits, preprocessing and augmentation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from nas.data.preprocess import Preprocess, RawImage

if TYPE_CHECKING:
    from torch import Generator, Tensor

SplitName = Literal["train", "validation", "test"]
Images = NDArray[np.uint8] | Sequence[RawImage]
"""One array of all images (n, height, width[, 3]), or a sequence that opens images on demand."""


@dataclass(frozen=True, eq=False)
class Split:
    """Images with their targets."""

    images: Images
    targets: NDArray[Any]
    """The target of each image, shape (n, ...): int64 or float32. For classification: indices of the class
    names, shape (n,)."""
    _resized: dict[tuple[Preprocess, int], NDArray[np.uint8]] = field(
        default_factory=dict, init=False, repr=False
    )

    def __post_init__(self) -> None:
        if len(self.images) != len(self.targets):
            raise ValueError(
                f"a split needs one target per image, got {len(self.targets)} for {len(self.images)} images"
            )

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, indices: NDArray[np.int64]) -> Sequence[RawImage]:
        """The raw images at `indices`, each of which is opened when it is accessed."""
        return _Selection(self.images, indices)

    def pixels(
        self, indices: NDArray[np.int64], preprocess: Preprocess, resolution: int
    ) -> NDArray[np.uint8]:
        """The images at `indices`, resized and cropped: (len(indices), channels, resolution, resolution).

        Images in memory are resized once per resolution.
        """
        if not isinstance(self.images, np.ndarray):
            return _pixels(self.take(indices), preprocess, resolution)
        key = (preprocess, resolution)
        if key not in self._resized:
            self._resized[key] = _pixels(self.images, preprocess, resolution)
        return self._resized[key][indices]


@dataclass(frozen=True, eq=False)
class _Selection(Sequence[RawImage]):
    images: Images
    indices: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> RawImage:  # type: ignore[override]  # no slices
        image: RawImage = self.images[self.indices[index]]
        return image


def _pixels(images: Images, preprocess: Preprocess, resolution: int) -> NDArray[np.uint8]:
    return np.stack([preprocess.pixels(image, resolution) for image in images])


class Augment(Protocol):
    """Augmentation of training images and their targets."""

    def __call__(
        self, images: Sequence[RawImage], targets: Tensor, resolution: int, generator: Generator
    ) -> tuple[Tensor, Tensor]:
        """An augmented version of each image and its target.

        Args:
            images: the raw images of one batch. Images in files are decoded at each access, and are best
                handled one after the other, so that only one takes memory.
            targets: targets of the images, shape (n, ...).
            resolution: side of the resulting images, in pixels.
            generator: the only source of randomness.

        Returns:
            Images, uint8 or float32 (n, channels, resolution, resolution) with pixel values 0..255, before
            normalization, and their targets, shape (n, ...). uint8 is faster where worker processes load
            the images.
        """


class ImageAugment(Protocol):
    """Augmentation of images."""

    def __call__(self, images: Sequence[RawImage], resolution: int, generator: Generator) -> Tensor:
        """Arguments and result as in `Augment`, without targets."""


@dataclass(frozen=True)
class ImageOnly:
    """Augmentation that leaves the targets unchanged, as for classification."""

    augment: ImageAugment

    def __call__(
        self, images: Sequence[RawImage], targets: Tensor, resolution: int, generator: Generator
    ) -> tuple[Tensor, Tensor]:
        """See `Augment`."""
        return self.augment(images, resolution, generator), targets


@runtime_checkable
class Dataset(Protocol):
    """A data set of the toolkit, or a custom one.

    A custom data set is given as `module:object`, the name of a factory. It is called as
    `factory(root, split_seed)` with `root: Path | None` and `split_seed: int`, and returns a data set, for
    example an `ImageDataset`.
    """

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the output channels of the network, such as the names of the classes."""

    @property
    def preprocess(self) -> Preprocess:
        """Preprocessing; its `channels` are the input channels of the networks."""

    @property
    def augment(self) -> Augment | None:
        """Augmentation for training; None: none."""

    def split(self, name: SplitName) -> Split:
        """The images of a split, the same object at each call.

        `train` is for weights and batch-norm statistics, `validation` for the search, `test` only for the
        final report. Equal split seeds give equal splits.
        """


@dataclass(frozen=True)
class ImageDataset:
    """A data set made from its splits."""

    output_names: tuple[str, ...]
    preprocess: Preprocess
    augment: Augment | None
    splits: Mapping[SplitName, Split]
    left_out: str = ""
    """Description of the files that were left out, such as `40 .txt, 1 hidden folder`."""

    def split(self, name: SplitName) -> Split:
        """The images of a split."""
        return self.splits[name]


def summary(dataset: Dataset, outputs: str) -> str:
    """A description in one line: `3 classes; 48 / 6 / 6 images (train / validation / test), RGB`.

    Args:
        dataset: the data set.
        outputs: description of the network's outputs, such as `3 classes`.
    """
    sizes = " / ".join(str(len(dataset.split(name))) for name in get_args(SplitName))
    colours = "grey" if dataset.preprocess.channels == 1 else "RGB"
    splits = " / ".join(get_args(SplitName))
    counts = f"{outputs}; {sizes} images ({splits}), {colours}"
    left_out = getattr(dataset, "left_out", "")
    return f"{counts}; left out: {left_out}" if left_out else counts


def stratified_order(labels: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """A random order of all images in which every contiguous part is stratified by class.

    Each image is placed at its quantile within its shuffled class. A prefix is a stratified sample, and
    consecutive parts are stratified splits.
    """
    shuffled = rng.permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    counts = np.bincount(labels)
    rank = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    quantile = (rank + 0.5) / np.repeat(counts, counts)
    tie_break = rng.random(len(labels))  # otherwise classes of equal size would always have the same order
    return by_class[np.lexsort((tie_break, quantile))]


def stratified_split(
    labels: NDArray[np.int64], sizes: Sequence[int], split_seed: int
) -> list[NDArray[np.int64]]:
    """Disjoint stratified splits of all images: sorted indices of `sizes` images each, then of the others."""
    order = stratified_order(labels, np.random.default_rng(split_seed))
    return [np.sort(part) for part in np.split(order, np.cumsum(sizes))]
