"""From the bytes of an image file to upright 8-bit pixels, with numpy and Pillow alone.

The only place that decides what an image shows, for training, evaluation, calibration and export alike.
"""

from __future__ import annotations

import functools
import warnings
from os import PathLike, fspath

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

NOT_READ = frozenset({"BUFR", "EPS", "GRIB", "HDF5", "IPTC", "MPEG", "WMF"})
"""Formats that Pillow only identifies, or hands to another program."""
SIXTEEN_BITS = 2**16
CANNOT_READ = "cannot read the image "
RULES = {
    "exif_orientation": "applied: the image is turned upright first",
    "bit_depth": "8 bits; of 16-bit values the high byte (value >> 8); float images are refused",
    "alpha": "dropped, not blended",
    "palette": "replaced by its colours, transparency ignored",
    "color_spaces": "CMYK, YCbCr, LAB and HSV by Pillow's convert('RGB')",
    "frames": "first",
}
"""What `plain` and `read` do, in the words of a model card."""

# Large photographs exceed Pillow's first limit; its second limit is an error. Damaged metadata is not.
warnings.simplefilter("ignore", Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")


@functools.cache
def formats() -> tuple[str, ...]:
    """Pillow's names of the formats that can be read here."""
    Image.init()
    return tuple(name for name in Image.ID if name not in NOT_READ)


@functools.cache
def suffixes() -> frozenset[str]:
    """Suffixes of the files that can be read here, in lower case and with the dot."""
    readable = set(formats())
    return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in readable)


def read(path: str | PathLike[str]) -> Image.Image:
    """The first frame of an image file, upright, in mode RGB.

    Raises:
        ValueError: the file cannot be read, with its path and the reason.
    """
    try:
        # a stream, since Pillow maps some files of a path to memory and then turns TIFF images wrongly
        with open(path, "rb") as file, Image.open(file, formats=formats()) as image:
            return plain(image).convert("RGB")
    except Exception as error:  # damaged files raise errors of nearly any kind
        raise ValueError(f"{CANNOT_READ}{fspath(path)}: {_reason(error)}") from None


def has_sixteen_bits(path: str | PathLike[str]) -> bool:
    """Whether `read` keeps only the high byte of an image file that it can read."""
    with open(path, "rb") as file, Image.open(file, formats=formats()) as image:
        return image.mode.startswith("I")


def plain(image: Image.Image) -> Image.Image:
    """The image upright, as 8-bit grey (mode L) or colour (mode RGB).

    Raises:
        ValueError: float pixels, or integers outside the range of 16 bits.
    """
    image.load()  # some formats tell the orientation only now
    if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
        image = ImageOps.exif_transpose(image)
    if "transparency" in image.info:  # Pillow would blend or warn for some modes
        image = image.copy()
        del image.info["transparency"]
    if image.mode == "F":
        raise ValueError("float pixels have no stated range; save it with 8 or 16 bits per channel")
    if image.mode.startswith("I"):
        return _high_byte(image)
    return converted(image, "L" if image.mode in ("1", "L", "LA", "La") else "RGB")


def converted(image: Image.Image, mode: str) -> Image.Image:
    """The image in another mode, or itself if it has that mode."""
    return image if image.mode == mode else image.convert(mode)


def _high_byte(image: Image.Image) -> Image.Image:
    values = np.asarray(image)
    if values.min() < 0 or values.max() >= SIXTEEN_BITS:
        raise ValueError(
            f"integer pixels must be within 0..{SIXTEEN_BITS - 1}, got {values.min()}..{values.max()}; "
            f"save it with 8 or 16 bits per channel"
        )
    return Image.fromarray((values >> 8).astype(np.uint8))


def _reason(error: Exception) -> str:
    """One line that says what went wrong, without the path."""
    if isinstance(error, UnidentifiedImageError):
        return "no image format that can be read here"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__
