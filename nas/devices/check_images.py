"""Images for comparing the outputs of a device."""

from __future__ import annotations

import numpy as np

from hw_profiles.measuring.bundle import Images

N_IMAGES = 8
MAX_VALUES = 2**19
"""Limit for one set of images, so that a bundle stays small: 8 images up to 147 pixels, 3 of 224."""


def n_images(channels: int, size: int) -> int:
    """Number of images of `size` pixels."""
    return max(1, min(N_IMAGES, MAX_VALUES // (channels * size * size)))


def noise_images(channels: int, size: int) -> Images:
    """Standard normal noise, the scale of normalised images; shape (n, channels, size, size)."""
    rng = np.random.default_rng(0)
    shape = (n_images(channels, size), channels, size, size)
    return rng.standard_normal(shape, dtype=np.float32).astype(np.float16)
