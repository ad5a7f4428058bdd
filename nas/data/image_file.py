"""Read image files as upright 8-bit pixels, with numpy and Pillow only.

Training, evaluation, calibration and export all read images by this module.
"""

from __future__ import annotations

import functools
import warnings
from os import PathLike, fspath

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

NOT_READ = frozenset({"BUFR", "EPS", "GRIB", "HDF5", "IPTC", "MPEG", "WMF"})
"""Formats that Pillow only identifies, or reads with another program."""
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
"""Description of `plain` and `read` for model cards."""

# Large photographs exceed the limit of Pillow's warning, and damaged metadata does not matter.
warnings.simplefilter("ignore", Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")


@functools.cache
def formats() -> tuple[str, ...]:
    """Pillow's names of the supported formats."""
    Image.init()
    return tuple(name for name in Image.ID if name not in NOT_READ)


@functools.cache
def suffixes() -> frozenset[str]:
    """Suffixes of the supported files, in lower case and with the dot."""
    readable = set(formats())
    return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in readable)


def read(path: str | PathLike[str]) -> Image.Image:
    """The first frame of an image file, upright, in mode RGB.

    Raises:
        ValueError: the file cannot be read; the message has its path and the reason.
    """
    try:
        # a stream, because Pillow would memory-map some files and then rotate TIFF images wrongly
        with open(path, "rb") as file, Image.open(file, formats=formats()) as image:
            return converted(plain(image), "RGB")
    except Exception as error:  # damaged files raise errors of nearly any kind
        raise ValueError(f"{CANNOT_READ}{fspath(path)}: {_reason(error)}") from None


def has_sixteen_bits(path: str | PathLike[str]) -> bool:
    """Whether a readable image file has 16 bits per channel, of which `read` keeps the high byte."""
    with open(path, "rb") as file, Image.open(file, formats=formats()) as image:
        return image.mode.startswith("I")


def plain(image: Image.Image) -> Image.Image:
    """The image upright, as 8-bit grey (mode L) or colour (mode RGB).

    Raises:
        ValueError: float pixels, or integers outside the range of 16 bits.
    """
    image.load()  # some formats have the orientation only after loading
    if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
        image = ImageOps.exif_transpose(image)
    if "transparency" in image.info:  # for some modes Pillow would blend or warn
        image = image.copy()
        del image.info["transparency"]
    if image.mode == "F":
        raise ValueError("the range of float pixels is unknown; save it with 8 or 16 bits per channel")
    if image.mode.startswith("I"):
        return _high_byte(image)
    return converted(image, "L" if image.mode in ("1", "L", "LA", "La") else "RGB")


def converted(image: Image.Image, mode: str) -> Image.Image:
    """The image in this mode; the same object if it already has the mode."""
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
    """The message of an error in one line, without the path."""
    if isinstance(error, UnidentifiedImageError):
        return "not a supported image format"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__
