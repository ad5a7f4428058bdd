"""Augmentation of training images, drawn independently for each image of a batch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Generator, Tensor
from torchvision.transforms import v2

from nas.data import image_file
from nas.data.dataset import ImageAugment
from nas.data.global_generator import seeded
from nas.data.preprocess import RawImage

ASPECT_RATIOS = 3 / 4, 4 / 3
"""Range of width divided by height of a random part of an image."""
TRIES = 10
"""Number of sizes that are drawn for a random part, until one fits into the image."""


@dataclass(frozen=True)
class RandomAffine:
    """Shift, rotate and scale; pixels from outside the image are black.

    Each image has its own parameters: common ones for a batch cost more than a point of accuracy on digits.
    """

    shift_pixels: float
    """Largest shift in each direction, in pixels of the raw image; shifts may be fractional."""
    rotate_degrees: float = 0.0
    """Largest angle in either direction."""
    scale: float = 0.0
    """Largest relative change of size: 0.1 is 1/1.1 to 1.1 times."""

    def __call__(self, images: Sequence[RawImage], resolution: int, generator: Generator) -> Tensor:
        """See `ImageAugment`."""
        raw = _stack(images)
        x = _resize(raw, resolution)
        uniform = torch.rand((4, len(x)), generator=generator) * 2 - 1
        angle = uniform[0] * math.radians(self.rotate_degrees)
        zoom = torch.exp(uniform[1] * math.log1p(self.scale))
        shift = uniform[2:] * self.shift_pixels * 2 / raw.shape[-1]  # the image spans -1..1
        cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
        rows = [torch.stack([cos, -sin, shift[0]], 1), torch.stack([sin, cos, shift[1]], 1)]
        grid = F.affine_grid(torch.stack(rows, 1), list(x.shape), align_corners=False)
        return F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


@dataclass(frozen=True)
class RandomCropFlip:
    """Crop after padding with black, and mirror half of the images (He et al. 2016, §4.2)."""

    padding: int = 4
    """Pixels of the raw image on each side."""

    def __call__(self, images: Sequence[RawImage], resolution: int, generator: Generator) -> Tensor:
        """See `ImageAugment`."""
        x = _stack(images)
        n, _, height, width = x.shape
        padded = F.pad(x, [self.padding] * 4)
        top, left = torch.randint(2 * self.padding + 1, (2, n), generator=generator)
        flip = torch.rand(n, generator=generator) < 0.5
        rows = top[:, None] + torch.arange(height)
        columns = left[:, None] + torch.arange(width)
        columns = torch.where(flip[:, None], columns.flip(1), columns)
        index = torch.arange(n)[:, None, None]
        cropped = padded[index, :, rows[:, :, None], columns[:, None, :]]  # (n, height, width, channels)
        return _resize(cropped.permute(0, 3, 1, 2), resolution)


@dataclass(frozen=True)
class RandomResizedCrop:
    """A random part of the image, resized, and mirrored half of the time (Szegedy et al. 2015, §6)."""

    min_area: float = 0.08
    """Smallest share of the image's area."""
    brightness: float = 0.0
    """Largest relative change of the brightness; 0: none."""
    saturation: float = 0.0
    """Largest relative change of the saturation; 0: none."""
    policies: v2.Transform | None = None
    """Further augmentation of the cropped image, such as AutoAugment (Cubuk et al. 2019)."""

    def __call__(self, images: Sequence[RawImage], resolution: int, generator: Generator) -> Tensor:
        """See `ImageAugment`."""
        n = len(
            images
        )  # all numbers are drawn at once, because a call for each image takes a tenth of the time
        shapes = torch.rand((n, TRIES, 2), generator=generator).tolist()
        places = torch.rand((n, 3), generator=generator).tolist()
        seed = int(torch.randint(2**62, (), generator=generator))
        cropped: Iterable[Image.Image] = map(partial(self._crop, resolution), images, shapes, places)
        change = self._change()
        if change is not None:
            with seeded(seed):  # torchvision draws from the global generator
                cropped = [change(image) for image in cropped]
        return _channels_first(torch.from_numpy(np.stack([np.asarray(image) for image in cropped])))

    def _crop(
        self, resolution: int, raw: RawImage, shapes: Sequence[Sequence[float]], place: Sequence[float]
    ) -> Image.Image:
        """A part of an image.

        Args:
            resolution: side of the result, in pixels.
            raw: the image.
            shapes: area and aspect ratio of each try, uniformly distributed in 0..1.
            place: position of the left and of the upper edge, and the draw that decides whether to mirror,
                uniformly distributed in 0..1.
        """
        image = _pillow(raw)
        width, height = self._size(image, shapes)
        left = int(place[0] * (image.width - width + 1))
        top = int(place[1] * (image.height - height + 1))
        image = image.crop((left, top, left + width, top + height))
        image = image.resize((resolution, resolution), Image.Resampling.BILINEAR)
        return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if place[2] < 0.5 else image

    def _size(self, image: Image.Image, shapes: Sequence[Sequence[float]]) -> tuple[int, int]:
        """Width and height of a part of an image: the first that fits, or the largest possible."""
        narrow, wide = ASPECT_RATIOS
        for area, ratio in shapes:
            pixels = image.width * image.height * (self.min_area + (1 - self.min_area) * area)
            aspect = narrow * (wide / narrow) ** ratio
            width, height = round(math.sqrt(pixels * aspect)), round(math.sqrt(pixels / aspect))
            if 0 < width <= image.width and 0 < height <= image.height:
                return width, height
        return min(image.width, round(image.height * wide)), min(image.height, round(image.width / narrow))

    def _change(self) -> v2.Transform | None:
        """The transforms that follow the crop; None without any."""
        changes = [] if self.policies is None else [self.policies]
        if self.brightness or self.saturation:
            changes.append(v2.ColorJitter(brightness=self.brightness, saturation=self.saturation))
        return v2.Compose(changes) if changes else None


AUGMENTATIONS: Mapping[str, ImageAugment] = {
    "crop": RandomResizedCrop(),
    "crop_color": RandomResizedCrop(brightness=32 / 255, saturation=0.5),
    "autoaugment": RandomResizedCrop(policies=v2.AutoAugment()),
}
"""Augmentations by name: `crop_color` with the ranges of OFA, `autoaugment` with those for ImageNet."""


def _stack(images: Sequence[RawImage]) -> Tensor:
    """Images of one size as float32 (n, channels, height, width), values 0..255."""
    return _channels_first(torch.from_numpy(np.stack([np.asarray(image) for image in images])).float())


def _channels_first(x: Tensor) -> Tensor:
    """Images (n, height, width[, 3]) as (n, channels, height, width)."""
    return x[:, None] if x.ndim == 3 else x.permute(0, 3, 1, 2)


def _resize(x: Tensor, resolution: int) -> Tensor:
    """Bilinear resizing as in Pillow, without rounding to integers."""
    return F.interpolate(x, (resolution, resolution), mode="bilinear", antialias=True)


def _pillow(image: RawImage) -> Image.Image:
    return Image.fromarray(image) if isinstance(image, np.ndarray) else image_file.plain(image)
