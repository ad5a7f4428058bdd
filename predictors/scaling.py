"""Scales for standardization."""

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]


def scale_of(values: Vector) -> Vector:
    """Standard deviation along the first axis; 1 for constant columns."""
    deviation: Vector = values.std(axis=0)
    return np.where(deviation > 1e-9 * np.abs(values).max(axis=0), deviation, 1.0)
