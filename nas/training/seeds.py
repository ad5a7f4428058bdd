"""Random generators that follow from the seed and the step alone."""

from __future__ import annotations

import numpy as np


def rng_of(seed: int, what: str, index: int) -> np.random.Generator:
    """The random generator of one step or epoch, equal in all processes; `what` keeps their streams apart."""
    return np.random.default_rng([seed, *what.encode(), index])
