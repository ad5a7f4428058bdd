"""Mean and variance of the channels of images that are computed in parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

MAX_ROWS = 4_096
"""Largest number of values that torch may add one after the other. If it added all values of 256 images of
112 x 112 pixels, the variance would be wrong by 0.3 %."""


class Moments(NamedTuple):
    """Mean and variance of each channel."""

    n: int
    """Values per channel."""
    mean: Tensor
    var: Tensor
    """Divided by `n`."""


def channel_moments(x: Tensor) -> Moments:
    """Moments of the channels of images (n, channels, height, width) or vectors; in float64 on a CPU."""
    x = x[:, :, None, None] if x.ndim == 2 else x
    n, channels, height, width = x.shape
    if x.device.type != "cpu":
        var, mean = torch.var_mean(x.float(), (0, 2, 3), correction=0)
        return Moments(n * height * width, mean, var)
    rows = x.float().permute(0, 2, 3, 1).reshape(-1, channels)  # a view in channels-last layout
    groups = width if len(rows) > MAX_ROWS else 1  # the columns of the images, as further channels
    columns = rows.reshape(-1, groups * channels)
    means, variances = torch.batch_norm_update_stats(columns, None, None, 0.0)
    means, variances = means.double().view(groups, channels), variances.double().view(groups, channels)
    return _merged(len(rows), torch.full((groups,), 1 / groups, dtype=means.dtype), means, variances)


def merge_moments(parts: Sequence[Moments]) -> Moments:
    """Moments of all parts together."""
    if len(parts) == 1:
        return parts[0]
    n = sum(part.n for part in parts)
    means, variances = torch.stack([part.mean for part in parts]), torch.stack([part.var for part in parts])
    shares = torch.tensor([part.n / n for part in parts], dtype=means.dtype, device=means.device)
    return _merged(n, shares, means, variances)


def _merged(n: int, shares: Tensor, means: Tensor, variances: Tensor) -> Moments:
    """Moments of all groups together, from the moments (groups, channels) and shares (groups,) of the
    values."""
    mean = shares @ means
    return Moments(n, mean, shares @ (variances + (means - mean) ** 2))
