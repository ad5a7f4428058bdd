"""Checks of values and errors that come from a user's own code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from search_spaces.genomes import Genomes
from search_spaces.space import Space


def reason(error: Exception) -> str:
    """Type and message of an error in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())


@contextmanager
def errors_of(source: str) -> Iterator[None]:
    """Turn any error of a user's code into one line.

    Args:
        source: the name of the code, such as `the metric 'my_parts:errors'`.

    Raises:
        ValueError: names the source and the error.
    """
    try:
        yield
    except Exception as error:
        raise ValueError(f"{source} failed with {reason(error)}") from error


def one_per_subnet(source: str, values: object, genomes: Genomes, space: Space) -> NDArray[np.float64]:
    """`values` as a vector of numbers.

    Args:
        source: the name of the code that computed them.
        values: anything; they must be finite numbers of shape (n,).
        genomes: of the subnets that they belong to, shape (n, n_genes).
        space: of the genomes.

    Raises:
        ValueError: names the source, the rule and the value, and the subnet where one value is wrong.
    """
    n = len(genomes)
    with errors_of(f"{source} must give one number per subnet; reading what it gave"):
        array = np.asarray(values)
    if array.shape != (n,) or array.dtype.kind not in "biuf":
        raise ValueError(
            f"{source} must give one number per subnet, an array of shape ({n},), "
            f"got {type(values).__name__} of shape {array.shape} and type {array.dtype}"
        )
    wrong = np.flatnonzero(~np.isfinite(array))
    if len(wrong):
        arch = space.decode(genomes[wrong[:1]])[0]
        raise ValueError(
            f"{source} must give finite numbers, got {array[wrong[0]]} for the subnet {arch.id} "
            f"({len(wrong)} of {n} subnets)"
        )
    return array if array.dtype.kind == "f" else array.astype(np.float64)
