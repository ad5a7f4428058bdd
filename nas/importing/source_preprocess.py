"""The preprocessing with which the networks of each source were trained."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace

from nas.data.image_folder import IMAGENET_MEAN, IMAGENET_STD
from nas.data.preprocess import Preprocess

SIDE = 224
"""Side of the crop to which the sizes of resized images below belong."""
_IMAGENET = Preprocess(IMAGENET_MEAN, IMAGENET_STD, interpolation="bicubic")
_HALVES = Preprocess((0.5,) * 3, (0.5,) * 3, interpolation="bicubic")


def source_preprocess(source: str, model: str, resolution: int) -> Preprocess | None:
    """The preprocessing of a published network of RGB images.

    Args:
        source: name of the tool.
        model: name of the network or of its file, such as `vit_b_16_swag` or `deit_tiny_patch16_224`; the
            preprocessing of torchvision and timm depends on it.
        resolution: largest resolution of the space in pixels.

    Returns:
        The preprocessing; None if it is that of the data set `imagefolder`.
    """
    rule = RULES.get(source)
    return rule(model.lower(), resolution) if rule else None


def _resized(preprocess: Preprocess, side: int) -> Preprocess:
    """A crop of 224 pixels from images of `side` pixels, and in proportion for other resolutions."""
    return replace(preprocess, crop_fraction=SIDE / side)


def _bicubic(model: str, resolution: int) -> Preprocess:
    return _resized(_IMAGENET, 256)


def _torchvision(model: str, resolution: int) -> Preprocess:
    """Weights with `swag` in their name, and all weights of vit_h_14, were trained without a border."""
    named = re.search(r"vit_[bl]_\d\d", model)
    if "swag" in model or "vit_h_14" in model or (not named and resolution > SIDE):
        return _IMAGENET
    side = 242 if "vit_l_16" in model else 256
    return _resized(replace(_IMAGENET, interpolation="bilinear"), side)


def _timm(model: str, resolution: int) -> Preprocess:
    """DeiT and DINO use the moments of ImageNet; networks for large images have no border."""
    normalized = _IMAGENET if re.search(r"deit|dino", model) else _HALVES
    whole = resolution > SIDE or "dinov2" in model or re.search(r"deit3.*(22k|21k)", model)
    return normalized if whole else _resized(normalized, 248)


RULES: Mapping[str, Callable[[str, int], Preprocess]] = {
    "autoformer": _bicubic,
    "prenas": _bicubic,
    "nasvit": _bicubic,
    "elasticvit": _bicubic,
    "torchvision": _torchvision,
    "timm": _timm,
}
"""Rules by source."""
