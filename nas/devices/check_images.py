"""Images for comparing the outputs of a device."""

from __future__ import annotations

import numpy as np

from hw_profiles.measuring.bundle import Images

N_IMAGES = 8
MAX_VALUES = 2**19
"""Largest number of values in a set of images, to keep bundles small: 8 images up to 147 pixels, 3 of 224."""


def n_images(channels: int, size: int) -> int:
    """Number of images in a set, for images of `size` x `size` pixels."""
    return max(1, min(N_IMAGES, MAX_VALUES // (channels * size * size)))


def noise_images(channels: int, size: int) -> Images:
    """Standard normal noise, float16, shape (n, channels, size, size); it has the scale of normalized
    images."""
    rng = np.random.default_rng(0)
    shape = (n_images(channels, size), channels, size, size)
    return rng.standard_normal(shape, dtype=np.float32).astype(np.float16)
