"""What a layer costs a device, in numbers that its time is made of: the roofline of each kind of layer.

A layer takes a launch, and computes or moves memory, whichever is slower (Williams, Waterman and Patterson,
Roofline, CACM 2009); how fast either is depends on the kind of layer.
"""

from __future__ import annotations

from functools import lru_cache
from math import log2
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from search_spaces import LayerSpec

Vector = NDArray[np.float64]

KINDS = ("pointwise", "depthwise", "dense", "linear", "pool", "elementwise", "resize")
COMPUTING = ("pointwise", "depthwise", "dense", "linear")
"""Kinds that have MACs."""
TERMS = ("launch", *(f"traffic.{kind}" for kind in KINDS), *(f"macs.{kind}" for kind in COMPUTING))
"""Names of the numbers of `Shape.terms`."""

_KIND_OF_OP = {
    "linear": "linear",
    "add": "elementwise",
    "multiply": "elementwise",
    "avg_pool": "pool",
    "max_pool": "pool",
    "global_avg_pool": "pool",
    "resize": "resize",
}


class Shape(NamedTuple):
    """All that the time of a layer depends on here; layers of equal shape are equally fast."""

    kind: str
    n_inputs: int
    c_in: int
    c_out: int
    size_in: int
    size_out: int
    kernel: int
    stride: int
    macs: int

    @classmethod
    def of(cls, layer: LayerSpec) -> Shape:
        """The shape of a layer."""
        return cls(
            _kind(layer),
            len(layer.inputs),
            layer.c_in,
            layer.c_out,
            layer.size_in,
            layer.size_out,
            layer.kernel,
            layer.stride,
            layer.macs,
        )

    @property
    def traffic(self) -> int:
        """Numbers read and written for one image, weights aside."""
        return self.n_inputs * self.c_in * self.size_in**2 + self.c_out * self.size_out**2

    @property
    def place(self) -> tuple[float, ...]:
        """Where the layer lies among those of its kind, in steps of about a doubling of the work."""
        return (
            log2(self.c_in),
            log2(self.c_out),
            2 * log2(self.size_out),
            self.kernel / 2,
            float(self.stride),
        )


@lru_cache(maxsize=1 << 16)
def terms(shape: Shape) -> Vector:
    """A launch, and traffic and MACs for one image in the columns of its kind, shape (len(TERMS),)."""
    row = np.zeros(len(TERMS))
    row[0] = 1
    row[TERMS.index(f"traffic.{shape.kind}")] = shape.traffic
    if shape.kind in COMPUTING:
        row[TERMS.index(f"macs.{shape.kind}")] = shape.macs
    return row


def _kind(layer: LayerSpec) -> str:
    if layer.op != "conv":
        return _KIND_OF_OP[layer.op]
    if layer.groups > 1:
        return "depthwise"
    return "pointwise" if layer.kernel == 1 else "dense"
