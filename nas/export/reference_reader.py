"""Read an image file as a network takes it, by the network's model card; with numpy and Pillow alone."""

from typing import Any

import numpy as np
from PIL import Image, ImageOps


def network_input(path: str, preprocess: dict[str, Any]) -> Any:
    """The input of shape (1, channels, size, size); `preprocess` is that entry of the model card."""
    with open(path, "rb") as file:
        image = ImageOps.exif_transpose(Image.open(file))  # the first frame, upright
    image.info.pop("transparency", None)
    if image.mode == "F":
        raise ValueError(f"{path} has float pixels, of which no range is stated")
    if image.mode.startswith("I"):  # 16 bits
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    image = image.convert("RGB").convert("L" if preprocess["channel_order"] == "grey" else "RGB")
    size, (w, h) = preprocess["center_crop"], image.size
    resampling = Image.Resampling[preprocess["interpolation"].upper()]
    width, height = (preprocess["resize_shorter_side_to"] * side // min(w, h) for side in (w, h))
    left, top = (width - size) // 2, (height - size) // 2
    right, bottom = left + size, top + size
    if max(w, h) <= preprocess["thin_above"] * min(w, h):
        image = image.resize((width, height), resampling).crop((left, top, right, bottom))
    else:
        part = (left * w / width, top * h / height, right * w / width, bottom * h / height)
        image = image.resize((size, size), resampling, part)
    pixels = np.asarray(image, np.float32).reshape(size, size, -1) / np.float32(preprocess["divide_by"])
    normalized = (pixels - np.float32(preprocess["mean"])) / np.float32(preprocess["std"])
    return normalized.transpose(2, 0, 1)[None]
