"""Images that several networks with different resolutions read together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from nas.data.batches import ImageSample
from nas.data.dataset import Dataset, Split
from nas.data.loading import errors_in_one_line
from nas.data.normalization import Normalization
from nas.data.preprocess import Preprocess
from nas.threads import Map

NORMALIZED_IMAGES = 16
"""Images that are normalized in one step on a CPU."""


def shared_pixels(
    dataset: Dataset,
    split: Split,
    sample: ImageSample,
    resolutions: Sequence[int],
    *,
    augmented: bool = False,
    run: Map = map,
) -> dict[int, Tensor]:
    """The images of a sample in several resolutions; each image is decoded once.

    Args:
        dataset: defines preprocessing and augmentation.
        split: source of the images.
        sample: the images.
        resolutions: sides of the images, in pixels.
        augmented: whether to augment the images as in training.
        run: a `map` function that decodes and resizes images, such as the `map` of a pool of threads.

    Returns:
        For each resolution, the images: shape (n, channels, resolution, resolution), values 0..255, uint8 or,
        if augmented, float32.

    Raises:
        ValueError: an image cannot be read, or the data set raises an error.
    """
    with errors_in_one_line():
        if augmented and dataset.augment is not None:
            return _augmented(dataset, split, sample, resolutions, run)
        if isinstance(split.images, np.ndarray):
            pixels = {r: split.pixels(sample.indices, dataset.preprocess, r) for r in resolutions}
            return {r: torch.from_numpy(values) for r, values in pixels.items()}
        return _decoded(dataset.preprocess, split, sample.indices, resolutions, run)


def _decoded(
    preprocess: Preprocess,
    split: Split,
    indices: NDArray[np.int64],
    resolutions: Sequence[int],
    run: Map,
) -> dict[int, Tensor]:
    pixels = {r: np.empty((len(indices), r, r, preprocess.channels), np.uint8) for r in resolutions}

    def decode(i: int) -> None:
        image = split.images[indices[i]]
        for resolution, values in pixels.items():
            values[i] = preprocess.pixels(image, resolution).transpose(1, 2, 0)

    for _ in run(decode, range(len(indices))):
        pass
    return {r: torch.from_numpy(values).permute(0, 3, 1, 2) for r, values in pixels.items()}


def _augmented(
    dataset: Dataset, split: Split, sample: ImageSample, resolutions: Sequence[int], run: Map
) -> dict[int, Tensor]:
    images = list(run(lambda i: split.images[i], sample.indices))
    targets = torch.from_numpy(split.targets[sample.indices])

    def augment(resolution: int) -> Tensor:
        assert dataset.augment is not None
        generator = Generator().manual_seed(sample.seed)
        return dataset.augment(images, targets, resolution, generator)[0]

    return dict(zip(resolutions, run(augment, resolutions), strict=True))


def normalized(pixels: Tensor, preprocess: Preprocess, device: torch.device, run: Map = map) -> Tensor:
    """Normalized images on a device.

    Args:
        pixels: shape (n, channels, height, width), values 0..255.
        preprocess: has the mean and the standard deviation.
        device: where the result is computed.
        run: a `map` function that normalizes parts of the images, such as the `map` of a pool of threads.

    Returns:
        float32, in channels-last layout on a CPU.
    """
    normalization = Normalization(preprocess, device)
    layout = torch.channels_last if device.type == "cpu" else torch.contiguous_format
    x = torch.empty(pixels.shape, device=device, memory_format=layout)

    def fill(part: tuple[Tensor, Tensor]) -> None:
        to, source = part
        to.copy_(normalization(source.to(device)))

    step = NORMALIZED_IMAGES if device.type == "cpu" else len(x)
    for _ in run(fill, zip(x.split(step), pixels.split(step), strict=True)):
        pass
    return x
