"""What a data set is: class names, splits, and how its images become inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol, get_args, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from nas.data.preprocess import Preprocess, RawImage

if TYPE_CHECKING:
    from torch import Generator, Tensor

SplitName = Literal["train", "validation", "test"]
Images = NDArray[np.uint8] | Sequence[RawImage]
"""One array for all images (n, height, width[, 3]), or a sequence that opens each image when asked."""


@dataclass(frozen=True, eq=False)
class Split:
    """Images with their labels."""

    images: Images
    labels: NDArray[np.int64]
    """Indices of class names, shape (n,)."""
    _resized: dict[tuple[Preprocess, int], NDArray[np.uint8]] = field(
        default_factory=dict, init=False, repr=False
    )

    def __post_init__(self) -> None:
        if len(self.images) != len(self.labels):
            raise ValueError(
                f"a split needs one label per image, got {len(self.labels)} for {len(self.images)} images"
            )

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: NDArray[np.int64]) -> list[RawImage]:
        """The images at `indices`, as they are."""
        return [self.images[i] for i in indices]

    def pixels(
        self, indices: NDArray[np.int64], preprocess: Preprocess, resolution: int
    ) -> NDArray[np.uint8]:
        """The images at `indices`, resized and cropped: (len(indices), channels, resolution, resolution).

        Images that are held in memory are resized once per resolution.
        """
        if not isinstance(self.images, np.ndarray):
            return _pixels(self.take(indices), preprocess, resolution)
        key = (preprocess, resolution)
        if key not in self._resized:
            self._resized[key] = _pixels(self.images, preprocess, resolution)
        return self._resized[key][indices]


def _pixels(images: Images, preprocess: Preprocess, resolution: int) -> NDArray[np.uint8]:
    return np.stack([preprocess.pixels(image, resolution) for image in images])


class Augment(Protocol):
    """Random variants of training images."""

    def __call__(self, images: Sequence[RawImage], resolution: int, generator: Generator) -> Tensor:
        """A variant of each image.

        Args:
            images: the raw images of one batch.
            resolution: side of the result, in pixels.
            generator: the only source of randomness.

        Returns:
            float32 (n, channels, resolution, resolution), pixel values 0..255, not yet normalised.
        """


@runtime_checkable
class Dataset(Protocol):
    """A data set, the toolkit's or a user's own.

    A user names a factory, `module:object`, that is called as `factory(root, split_seed)` with
    `root: Path | None` and `split_seed: int` and returns a data set; `ImageDataset` is a ready-made one.
    """

    @property
    def class_names(self) -> tuple[str, ...]:
        """What the labels 0, 1, … mean."""

    @property
    def preprocess(self) -> Preprocess:
        """How an image becomes an input; its `channels` are those of the networks."""

    @property
    def augment(self) -> Augment | None:
        """For training alone; None: training sees the clean images."""

    def split(self, name: SplitName) -> Split:
        """The images of a split, the same object at each call.

        `train` fits weights and batch-norm statistics, `validation` steers the search, `test` is read by the
        final report and by nothing else. Equal split seeds give equal splits.
        """


@dataclass(frozen=True)
class ImageDataset:
    """A data set whose splits are at hand."""

    class_names: tuple[str, ...]
    preprocess: Preprocess
    augment: Augment | None
    splits: Mapping[SplitName, Split]
    left_out: str = ""
    """Files that lay beside the images and were not taken, such as `40 .txt, 1 hidden folder`."""

    def split(self, name: SplitName) -> Split:
        """The images of a split."""
        return self.splits[name]


def summary(dataset: Dataset) -> str:
    """One line on what was found: `3 classes; 48 / 6 / 6 images (train / validation / test), RGB`."""
    sizes = " / ".join(str(len(dataset.split(name))) for name in get_args(SplitName))
    colours = "grey" if dataset.preprocess.channels == 1 else "RGB"
    splits = " / ".join(get_args(SplitName))
    counts = f"{len(dataset.class_names)} classes; {sizes} images ({splits}), {colours}"
    left_out = getattr(dataset, "left_out", "")
    return f"{counts}; left out: {left_out}" if left_out else counts


def stratified_order(labels: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """A random order of all images in which every stretch holds the classes in their shares.

    Each image is put at the quantile that it has within its shuffled class. Cutting the order gives
    stratified splits; a prefix is a stratified sample.
    """
    shuffled = rng.permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    counts = np.bincount(labels)
    rank = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    quantile = (rank + 0.5) / np.repeat(counts, counts)
    tie_break = rng.random(len(labels))  # else equally large classes would always come in the same order
    return by_class[np.lexsort((tie_break, quantile))]


def stratified_cut(
    labels: NDArray[np.int64], sizes: Sequence[int], split_seed: int
) -> list[NDArray[np.int64]]:
    """Disjoint stratified parts of all images: sorted indices of `sizes` images each, then of the rest."""
    order = stratified_order(labels, np.random.default_rng(split_seed))
    return [np.sort(part) for part in np.split(order, np.cumsum(sizes))]
