"""Preprocessing of images, with numpy and Pillow only.

Evaluation uses this code, and `Preprocess.card` describes it in model cards.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nas.data import image_file

THIN_RATIO = 16
RawImage = Image.Image | NDArray[np.uint8]
"""A Pillow image, or an array of shape (height, width) or (height, width, 3)."""


@dataclass(frozen=True, slots=True)
class Preprocess:
    """The steps from an image to the input of a network.

    1. turn it upright and convert it to 8-bit grey (one channel) or RGB (three), see `image_file.plain`,
    2. resize: the shorter side to ceil(resolution / crop_fraction), the longer one in proportion (floor),
    3. crop the centre, resolution × resolution; if a margin is odd, its smaller part is left or above,
    4. (pixel / 255 - mean) / std for each channel.

    If the longer side of an image is more than `THIN_RATIO` times the shorter one, only the cropped part is
    resized, because the whole image would need too much memory.
    """

    mean: tuple[float, ...]
    """Mean of each channel, for pixels scaled to 0..1."""
    std: tuple[float, ...]
    """Standard deviation of each channel."""
    crop_fraction: float = 1.0
    """Side of the crop divided by the shorter side of the resized image."""
    interpolation: str = "bilinear"
    """Name of a filter in Pillow's `Image.Resampling`, in lower case."""

    def __post_init__(self) -> None:
        if len(self.mean) not in (1, 3) or len(self.std) != len(self.mean) or min(self.std) <= 0:
            raise ValueError(
                f"mean and std must have 1 or 3 numbers each and std be above 0, got {self.mean}, {self.std}"
            )
        if not 0 < self.crop_fraction <= 1:
            raise ValueError(f"crop_fraction must be above 0 and at most 1, got {self.crop_fraction}")
        filters = [resampling.name.lower() for resampling in Image.Resampling]
        if self.interpolation not in filters:
            raise ValueError(f"interpolation must be one of {filters}, got {self.interpolation!r}")

    @property
    def channels(self) -> int:
        """1 (grey) or 3 (RGB)."""
        return len(self.mean)

    def __call__(self, image: RawImage, resolution: int) -> NDArray[np.float32]:
        """The network's input for one image, shape (channels, resolution, resolution)."""
        return self.normalize(self.pixels(image, resolution))

    def pixels(self, image: RawImage, resolution: int) -> NDArray[np.uint8]:
        """Steps 1 to 3: shape (channels, resolution, resolution), values 0..255."""
        image = Image.fromarray(image) if isinstance(image, np.ndarray) else image_file.plain(image)
        image = image_file.converted(image, "L" if self.channels == 1 else "RGB")
        image = self._resize_and_crop(image, resolution)
        return np.asarray(image).reshape(resolution, resolution, self.channels).transpose(2, 0, 1)

    def _resize_and_crop(self, image: Image.Image, resolution: int) -> Image.Image:
        """Steps 2 and 3."""
        short, interpolation = min(image.size), Image.Resampling[self.interpolation.upper()]
        width, height = (self.resize_to(resolution) * side // short for side in image.size)
        left, top = (width - resolution) // 2, (height - resolution) // 2
        if max(image.size) <= THIN_RATIO * short:
            resized = image.resize((width, height), interpolation)
            return resized.crop((left, top, left + resolution, top + resolution))
        box = (
            left * image.width / width,
            top * image.height / height,
            (left + resolution) * image.width / width,
            (top + resolution) * image.height / height,
        )
        return image.resize((resolution, resolution), interpolation, box=box)

    def normalize(self, pixels: NDArray[Any]) -> NDArray[np.float32]:
        """Step 4, for pixels with values 0..255 and shape (..., channels, height, width)."""
        mean = np.array(self.mean, dtype=np.float32).reshape(-1, 1, 1)
        std = np.array(self.std, dtype=np.float32).reshape(-1, 1, 1)
        return (pixels.astype(np.float32) / np.float32(255) - mean) / std

    def resize_to(self, resolution: int) -> int:
        """The shorter side after resizing, in pixels."""
        return math.ceil(resolution / self.crop_fraction)

    def text(self, resolution: int) -> str:
        """The steps 2 to 4 for a network of this resolution in one line."""
        mean, std = (" ".join(f"{number:g}" for number in numbers) for numbers in (self.mean, self.std))
        return (
            f"shorter side to {self.resize_to(resolution)} pixels ({self.interpolation}), central "
            f"{resolution} x {resolution}, mean {mean}, std {std}"
        )

    def card(self, resolution: int) -> dict[str, Any]:
        """Description of the preprocessing for a network of this resolution, for a JSON file."""
        grey = self.channels == 1
        return {
            "layout": "NCHW",
            "dtype": "float32",
            "channel_order": "grey" if grey else "RGB",
            **image_file.RULES,
            **({"grey": "299/1000 R + 587/1000 G + 114/1000 B, Pillow's convert('L')"} if grey else {}),
            "resize_shorter_side_to": self.resize_to(resolution),
            "resize_longer_side_to": "longer * resize_shorter_side_to // shorter (rounded down)",
            "interpolation": self.interpolation,
            "interpolation_library": "Pillow",
            "center_crop": resolution,
            "crop_offset": "(side - center_crop) // 2 (rounded down) from the left and from the top",
            "thin_above": THIN_RATIO,
            "thin": "where longer / shorter exceeds thin_above, only the part that the crop keeps is resized",
            "pixel_range": [0, 255],
            "divide_by": 255,
            "normalize": "(pixel / divide_by - mean) / std for each channel",
            "mean": list(self.mean),
            "std": list(self.std),
        }
