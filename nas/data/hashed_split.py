"""Splits of files in which no file depends on the others."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def hashed_cut(
    names: Sequence[str], labels: NDArray[np.int64], shares: Sequence[float], split_seed: int
) -> list[NDArray[np.int64]]:
    """Disjoint parts of all files: sorted indices of about `shares` of each class, then of the rest.

    A hash of its name and the seed decides where a file belongs, so that one file more or less moves no
    other. The exception are classes so small that a part would get none: there each part gets the file that
    is nearest to it.

    Args:
        names: relative to the root, with `/`.
        labels: shape (n,); each class needs more files than there are shares.
        shares: of the parts, below 1 in total.
        split_seed: draws other parts.
    """
    place = np.array([_uniform(name, split_seed) for name in names])
    bounds = np.cumsum(shares)
    parts: list[list[int]] = [[] for _ in range(len(shares) + 1)]
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        members = members[np.argsort(place[members], kind="stable")]
        ends = np.searchsorted(place[members], bounds)
        for i in range(len(ends)):  # at least one file for this part, and for each of those after it
            first = ends[i - 1] if i else 0
            ends[i] = min(max(ends[i], first + 1), len(members) - (len(ends) - i))
        for part, indices in zip(parts, np.split(members, ends), strict=True):
            part.extend(indices.tolist())
    return [np.array(sorted(part), dtype=np.int64) for part in parts]


def _uniform(name: str, split_seed: int) -> float:
    """A number in 0..1 that depends on the arguments alone, equal on every machine."""
    text = f"{split_seed}/{name}".encode("utf-8", "surrogateescape")
    return int.from_bytes(hashlib.blake2b(text, digest_size=6).digest(), "big") / 2**48
