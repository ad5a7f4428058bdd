"""Splits of files by a hash, so that the split of a file does not depend on other files."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def hashed_split(
    names: Sequence[str], labels: NDArray[np.int64], shares: Sequence[float], split_seed: int
) -> list[NDArray[np.int64]]:
    """Disjoint splits of all files: sorted indices of about `shares` of each class, then of the others.

    The split of a file is determined by a hash of its name and the seed, so adding or removing a file does
    not affect other files. An exception are small classes in which a split would be empty: there, the empty
    split gets the file with the nearest hash.

    Args:
        names: paths relative to the root, with `/`.
        labels: class of each file, shape (n,); each class needs more files than there are shares.
        shares: shares of the splits, below 1 in total.
        split_seed: seed of the splits.
    """
    place = np.array([_uniform(name, split_seed) for name in names])
    bounds = np.cumsum(shares)
    parts: list[list[int]] = [[] for _ in range(len(shares) + 1)]
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        members = members[np.argsort(place[members], kind="stable")]
        ends = np.searchsorted(place[members], bounds)
        for i in range(len(ends)):  # at least one file for this split and for each later one
            first = ends[i - 1] if i else 0
            ends[i] = min(max(ends[i], first + 1), len(members) - (len(ends) - i))
        for part, indices in zip(parts, np.split(members, ends), strict=True):
            part.extend(indices.tolist())
    return [np.array(sorted(part), dtype=np.int64) for part in parts]


def _uniform(name: str, split_seed: int) -> float:
    """A number in 0..1 that depends only on the arguments, equal on every machine."""
    text = f"{split_seed}/{name}".encode("utf-8", "surrogateescape")
    return int.from_bytes(hashlib.blake2b(text, digest_size=6).digest(), "big") / 2**48
