"""Indices of the distances between the tokens of an image in tables of relative positions."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from search_spaces.operators.attention import RelativeBias, RelativeTables

HIDDEN = -100.0
"""Added to the attention logits of pairs of tokens that do not attend to each other."""


class Distances(NamedTuple):
    """Indices of the vertical and horizontal distance of each pair of tokens, shape (tokens, tokens)."""

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]


@lru_cache(maxsize=64)
def distances(relative: RelativeTables | RelativeBias) -> Distances:
    """Indices into the tables of `relative` for the distance from each token to each other token."""
    rows, columns = (_between_patches(relative.grid, axis) for axis in (0, 1))
    if isinstance(relative, RelativeBias):
        return Distances(rows + relative.grid[0] - 1, columns + relative.grid[1] - 1)
    return Distances(_clipped(rows, relative), _clipped(columns, relative))


def _between_patches(grid: tuple[int, int], axis: int) -> NDArray[np.int64]:
    position = np.indices(grid)[axis].ravel()
    between: NDArray[np.int64] = position[None, :] - position[:, None]
    return between


def _clipped(between: NDArray[np.int64], relative: RelativeTables) -> NDArray[np.int64]:
    """Indices of distances clipped to `relative.distance`; 0 for pairs with a prefix token."""
    table = np.zeros((relative.prefix + len(between),) * 2, np.int64)
    table[relative.prefix :, relative.prefix :] = (
        np.clip(between, -relative.distance, relative.distance) + relative.distance + 1
    )
    return table


@lru_cache(maxsize=64)
def window_mask(
    grid: tuple[int, int], window: tuple[int, int], shift: tuple[int, int]
) -> NDArray[np.float32]:
    """The mask that is added to the attention logits in shifted windows.

    Args:
        grid: height and width of the grid of tokens.
        window: height and width of a window.
        shift: vertical and horizontal shift.

    Returns:
        `HIDDEN` for pairs of tokens from opposite sides of the grid, else 0; shape (windows, 1, tokens of a
        window, tokens of a window).
    """
    regions = np.zeros(grid, np.int64)
    for axis, (side, size, moved) in enumerate(zip(grid, window, shift, strict=True)):
        index = np.arange(side)
        part = (index >= side - size).astype(np.int64) + (index >= side - moved) if moved else 0 * index
        regions = 3 * regions + (part[:, None] if axis == 0 else part)
    rows, columns = grid[0] // window[0], grid[1] // window[1]
    windows = regions.reshape(rows, window[0], columns, window[1]).transpose(0, 2, 1, 3)
    tokens = windows.reshape(rows * columns, 1, -1)
    mask: NDArray[np.float32] = np.where(tokens[..., None] == tokens[..., None, :], 0, HIDDEN)
    return mask.astype(np.float32)
