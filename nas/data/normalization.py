"""Normalization of pixels on any device."""

from __future__ import annotations

import torch
from torch import Tensor

from nas.data.preprocess import Preprocess


class Normalization:
    """Step 4 of `Preprocess` on tensors; on a CPU the results are equal to the last bit.

    Args:
        preprocess: has the mean and the standard deviation of each channel.
        device: device of the images.
    """

    def __init__(self, preprocess: Preprocess, device: torch.device) -> None:
        self.mean, self.std = (
            torch.tensor(values, dtype=torch.float32, device=device).view(-1, 1, 1)
            for values in (preprocess.mean, preprocess.std)
        )
        self.largest = torch.tensor(255.0, device=device)  # CUDA multiplies by the inverse of a plain number

    def __call__(self, pixels: Tensor) -> Tensor:
        """Normalized float32 images.

        Args:
            pixels: values 0..255, shape (n, channels, height, width).
        """
        x = pixels.to(torch.float32, copy=True)
        return x.div_(self.largest).sub_(self.mean).div_(self.std)
