"""Image files of many formats with the same scene."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDEWAYS = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
"""The `Image.Transpose` of the upright image for each EXIF orientation."""


def scene(width: int = 45, height: int = 31) -> NDArray[np.uint8]:
    """Smooth colors that differ in all directions."""
    x, y = np.linspace(0, 1, width)[None, :], np.linspace(0, 1, height)[:, None]
    channels = [200 * x + 0 * y + 20, 180 * y + 0 * x + 30, 120 * x * y + 60]
    return np.stack(channels, axis=-1).astype(np.uint8)


def write_kinds(folder: Path) -> dict[str, Path]:
    """Write one file of each kind; returns the paths by name."""
    folder.mkdir(parents=True, exist_ok=True)
    color = Image.fromarray(scene())
    grey = color.convert("L")
    mask = Image.fromarray((np.asarray(grey) > 120).astype(np.uint8) * 255)
    palette = color.convert("P", palette=Image.Palette.ADAPTIVE)
    sixteen = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    exif = Image.Exif()
    exif[0x0112] = 6
    frames = {"save_all": True, "append_images": [Image.new("RGB", color.size)]}

    def save(name: str, image: Image.Image, **options: object) -> None:
        files[name] = folder / name
        image.save(folder / name, **options)  # type: ignore[arg-type]

    files: dict[str, Path] = {}
    save("rgb.jpg", color, quality=95)
    save("grey.jpg", grey)
    save("one_bit.png", grey.convert("1"))
    save("palette.png", palette)
    save("palette_transparent.png", palette, transparency=bytes(range(256)))
    save("palette_key.gif", palette, transparency=3)
    save("grey_alpha.png", Image.merge("LA", (grey, mask)))
    save("rgba.png", Image.merge("RGBA", (*color.split(), mask)))
    save("rgb_key.png", color, transparency=(20, 30, 60))
    save("cmyk.jpg", color.convert("CMYK"), quality=95)
    # older versions of Pillow cannot read the uncompressed file that they write
    save("ycbcr.tif", color.convert("YCbCr"), compression="tiff_lzw")
    save("lab.tif", color.convert("LAB"))
    save("sixteen_bit.png", sixteen)
    save(
        "sixteen_bit_big_endian.tif",
        Image.frombytes("I;16B", grey.size, np.asarray(sixteen).astype(">u2").tobytes()),
    )
    save("int32.tif", Image.fromarray(np.asarray(sixteen).astype(np.int32)))
    save("exif_jpeg.jpg", color.transpose(Image.Transpose.ROTATE_90), exif=exif, quality=95)
    save("exif_png.png", color.transpose(Image.Transpose.ROTATE_90), exif=exif)
    save("exif_palette.png", palette.transpose(Image.Transpose.ROTATE_90), exif=exif)
    save("exif_sixteen_bit.tif", sixteen.transpose(Image.Transpose.ROTATE_90), exif=exif)
    save("animated.gif", color, **frames)
    save("animated.webp", color, lossless=True, **frames)
    save("animated.png", color, **frames)
    save("thin.png", Image.fromarray(scene(900, 2)))
    save("tall.png", Image.fromarray(scene(1, 700)))
    save("one_pixel.png", Image.fromarray(scene(1, 1)))
    save("odd.png", Image.fromarray(scene(67, 53)))
    return files
