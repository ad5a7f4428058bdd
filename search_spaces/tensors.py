"""Shape and precision of a tensor between operators, for one image."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Layout = Literal["image", "tokens", "vector"]
Precision = Literal["fp32", "fp16", "int8"]
FP32: Precision = "fp32"
FP16: Precision = "fp16"
INT8: Precision = "int8"
MIXED = "mixed"
"""The precision of a network whose blocks have different ones."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Shape and precision of a tensor, without the batch.

    In torch and ONNX an image has the shape (channels, height, width), tokens have (n, channels), and a
    vector has (channels,).
    """

    layout: Layout
    channels: int
    size: tuple[int, ...] = ()
    """(height, width) of an image in pixels, (n,) for n tokens."""
    precision: Precision = "fp32"

    @property
    def shape(self) -> tuple[int, ...]:
        """The dimensions in the order of torch and ONNX."""
        return (*self.size, self.channels) if self.layout == "tokens" else (self.channels, *self.size)

    @property
    def numel(self) -> int:
        """Number of elements."""
        return self.channels * math.prod(self.size)

    @property
    def pixels(self) -> int:
        """Number of positions: pixels or tokens; 1 for a vector."""
        return math.prod(self.size)

    @property
    def extent(self) -> str:
        """Text of the size, such as `24`, `24x32` or `197t`; equal sides are written once."""
        size = self.size[:1] if self.layout == "image" and len(set(self.size)) == 1 else self.size
        return "x".join(map(str, size)) + ("t" if self.layout == "tokens" else "")

    def __str__(self) -> str:
        """Text for a latency key, such as `16@24`, `192@197t`, `64` or `16@24:int8`."""
        extent = f"@{self.extent}" if self.extent else ""
        return f"{self.channels}{extent}" + ("" if self.precision == FP32 else f":{self.precision}")


def image(channels: int, height: int, width: int | None = None) -> TensorSpec:
    """A feature map; without `width` it is square."""
    return TensorSpec("image", channels, (height, height if width is None else width))


def tokens(n: int, channels: int) -> TensorSpec:
    """A sequence of `n` tokens."""
    return TensorSpec("tokens", channels, (n,))


def vector(channels: int) -> TensorSpec:
    """A vector of features."""
    return TensorSpec("vector", channels)
