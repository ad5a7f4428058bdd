"""A data set with a part of its validation images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
from numpy.typing import NDArray

from nas.data.dataset import Augment, Dataset, Images, Split, SplitName, stratified_order
from nas.data.preprocess import Preprocess, RawImage


@dataclass(frozen=True)
class ValidationPart:
    """A data set whose validation split has fewer images; implements `Dataset`."""

    whole: Dataset
    validation: Split

    @property
    def output_names(self) -> tuple[str, ...]:
        """See `Dataset`."""
        return self.whole.output_names

    @property
    def preprocess(self) -> Preprocess:
        """See `Dataset`."""
        return self.whole.preprocess

    @property
    def augment(self) -> Augment | None:
        """See `Dataset`."""
        return self.whole.augment

    def split(self, name: SplitName) -> Split:
        """See `Dataset`."""
        return self.validation if name == "validation" else self.whole.split(name)


class _SomeImages(Sequence[RawImage]):
    """The images of a sequence at some indices, opened on demand."""

    def __init__(self, images: Sequence[RawImage], indices: NDArray[np.int64]) -> None:
        self._images, self._indices = images, indices

    def __len__(self) -> int:
        return len(self._indices)

    @overload
    def __getitem__(self, index: int) -> RawImage: ...
    @overload
    def __getitem__(self, index: slice) -> _SomeImages: ...
    def __getitem__(self, index: int | slice) -> RawImage | _SomeImages:
        if isinstance(index, slice):
            return _SomeImages(self._images, self._indices[index])
        image: RawImage = self._images[int(self._indices[index])]
        return image


def validation_part(dataset: Dataset, strata: NDArray[np.int64], n_images: int) -> ValidationPart:
    """A data set with `n_images` of the validation images, in their order.

    The part is stratified and always the same; a larger part includes a smaller one.

    Args:
        dataset: the data set.
        strata: stratum of each validation image.
        n_images: size of the part.

    Raises:
        ValueError: the validation split has fewer images.
    """
    split = dataset.split("validation")
    if not 1 <= n_images <= len(split):
        raise ValueError(f"validation images must be from 1 to all {len(split)}, got {n_images}")
    indices = np.sort(stratified_order(strata, np.random.default_rng(0))[:n_images])
    images: Images = (
        split.images[indices] if isinstance(split.images, np.ndarray) else _SomeImages(split.images, indices)
    )
    return ValidationPart(dataset, Split(images, split.targets[indices]))
