"""Checks of values and errors from custom code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from search_spaces.genomes import Genomes
from search_spaces.space import Space


def reason(error: BaseException) -> str:
    """Type and message of an error in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())


@contextmanager
def errors_of(source: str) -> Iterator[None]:
    """Convert any error of custom code to an error with a message of one line.

    Args:
        source: the name of the code, such as `the metric 'my_parts:errors'`.

    Raises:
        ValueError: the code raised an error.
    """
    try:
        yield
    except (Exception, SystemExit) as error:
        raise ValueError(f"{source} failed with {reason(error)}") from error


def one_per_subnet(source: str, values: object, genomes: Genomes, space: Space) -> NDArray[np.float64]:
    """Check that `values` has one finite number per subnet.

    Args:
        source: the name of the code that computed them.
        values: result of the code.
        genomes: genomes of the subnets, shape (n, n_genes).
        space: the space of the genomes.

    Returns:
        The values, shape (n,).

    Raises:
        ValueError: the shape or the type is wrong, or a number is not finite.
    """
    n = len(genomes)
    with errors_of(f"{source} must return one number per subnet; reading its result"):
        array = np.asarray(values)
    if array.shape != (n,) or array.dtype.kind not in "biuf":
        raise ValueError(
            f"{source} must return one number per subnet, an array of shape ({n},), "
            f"got {type(values).__name__} of shape {array.shape} and type {array.dtype}"
        )
    wrong = np.flatnonzero(~np.isfinite(array))
    if len(wrong):
        arch = space.decode(genomes[wrong[:1]])[0]
        raise ValueError(
            f"{source} must return finite numbers, got {array[wrong[0]]} for the subnet {arch.id} "
            f"({len(wrong)} of {n} subnets)"
        )
    return array if array.dtype.kind == "f" else array.astype(np.float64)
