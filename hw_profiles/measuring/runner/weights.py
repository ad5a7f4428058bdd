"""Random constants that the models of a bundle share. They are generated on the device."""

from __future__ import annotations

import os
from typing import Any

import numpy as np


def write_weights(path: str, weights: dict[str, Any]) -> None:
    """Write the constants; the file is replaced as a whole.

    Each region starts at the offset that the models refer to and holds `count` draws of a normal distribution
    with the standard deviation `scale`, rounded and clipped if `dtype` is an integer. RandomState is the
    generator whose draws are the same in all versions of numpy.
    """
    draws = np.random.RandomState(weights["seed"])
    temporary = path + ".part"
    with open(temporary, "wb") as file:
        for region in weights["regions"]:
            values = draws.standard_normal(region["count"]) * region["scale"]
            dtype = np.dtype(region["dtype"])
            if dtype.kind == "i":
                values = np.clip(np.rint(values), np.iinfo(dtype).min, np.iinfo(dtype).max)
            file.seek(region["offset"])
            file.write(values.astype(dtype).tobytes())
    os.replace(temporary, path)
