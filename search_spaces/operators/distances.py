"""Indices of the distances between the tokens of an image in tables of relative positions."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from search_spaces.operators.attention import RelativeBias, RelativeTables


class Distances(NamedTuple):
    """Indices of the vertical and horizontal distance of each pair of tokens, shape (tokens, tokens)."""

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]


@lru_cache(maxsize=64)
def distances(relative: RelativeTables | RelativeBias) -> Distances:
    """Where the tables of `relative` have the distance from each token to each other token."""
    rows, columns = (_between_patches(relative.grid, axis) for axis in (0, 1))
    if isinstance(relative, RelativeBias):
        return Distances(rows + relative.grid[0] - 1, columns + relative.grid[1] - 1)
    return Distances(_clipped(rows, relative), _clipped(columns, relative))


def _between_patches(grid: tuple[int, int], axis: int) -> NDArray[np.int64]:
    position = np.indices(grid)[axis].ravel()
    between: NDArray[np.int64] = position[None, :] - position[:, None]
    return between


def _clipped(between: NDArray[np.int64], relative: RelativeTables) -> NDArray[np.int64]:
    """Indices that are 0 for pairs with a prefix token."""
    table = np.zeros((relative.prefix + len(between),) * 2, np.int64)
    table[relative.prefix :, relative.prefix :] = (
        np.clip(between, -relative.distance, relative.distance) + relative.distance + 1
    )
    return table
