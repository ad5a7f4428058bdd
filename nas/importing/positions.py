"""Resampling of learned positions to another number of patches, as torchvision and timm do."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch.nn.functional as F
from torch import Tensor

Resample = Callable[[Tensor, tuple[int, int]], Tensor]
"""Resamples positions (height, width, channels) to a grid of another height and width."""


def _bicubic(grid: Tensor, size: tuple[int, int], *, align_corners: bool, antialias: bool) -> Tensor:
    image = grid.permute(2, 0, 1)[None]
    resized = F.interpolate(image, size, mode="bicubic", align_corners=align_corners, antialias=antialias)
    return resized[0].permute(1, 2, 0)


as_torchvision: Resample = partial(_bicubic, align_corners=True, antialias=False)
"""As `interpolate_embeddings` of torchvision."""
as_timm: Resample = partial(_bicubic, align_corners=False, antialias=True)
"""As `resample_abs_pos_embed` of timm 0.9 and later."""
