"""Pooling and resizing of feature maps."""

from __future__ import annotations

from dataclasses import dataclass, replace

from search_spaces.operators.base import Operator
from search_spaces.tensors import TensorSpec


@dataclass(frozen=True, slots=True)
class Pool2d(Operator):
    """Pooling over windows; sizes are divided by the stride and rounded up."""

    kernel: int
    stride: int
    padding: int = 0
    """Pixels on each side."""

    def output(self, *inputs: TensorSpec) -> TensorSpec:
        """See `Operator`."""
        return replace(inputs[0], size=tuple(-(-size // self.stride) for size in inputs[0].size))

    def ceil_mode(self, source: TensorSpec) -> bool:
        """Whether the last window extends beyond the input; only pixels inside count there."""
        floor = tuple((size + 2 * self.padding - self.kernel) // self.stride + 1 for size in source.size)
        return any(n > least for n, least in zip(self.output(source).size, floor, strict=True))

    def token(self, *inputs: TensorSpec) -> str:
        """See `Operator`."""
        words = [f"{self.prefix()}{self.kernel}x{self.kernel}"]
        words += [f"s{self.stride}"] * (self.stride > 1) + [f"p{self.padding}"] * (self.padding > 0)
        return " ".join(words)

    def prefix(self) -> str:
        """Name of the kind of pool in a latency key."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class AvgPool2d(Pool2d):
    """The mean of each window; padding counts as zeros."""

    def prefix(self) -> str:
        """See `Pool2d`."""
        return "avg_pool"


@dataclass(frozen=True, slots=True)
class MaxPool2d(Pool2d):
    """The largest value of each window."""

    def prefix(self) -> str:
        """See `Pool2d`."""
        return "max_pool"


@dataclass(frozen=True, slots=True)
class GlobalAvgPool(Operator):
    """The mean of each channel, as a feature map of one pixel."""

    def output(self, *inputs: TensorSpec) -> TensorSpec:
        """See `Operator`."""
        return replace(inputs[0], size=(1, 1))

    def token(self, *inputs: TensorSpec) -> str:
        """See `Operator`."""
        return "global_avg_pool"


@dataclass(frozen=True, slots=True)
class Resize(Operator):
    """Bicubic resizing: the convolution kernel with a = -0.75, pixel centres aligned, no antialiasing."""

    size: tuple[int, int]
    """Height and width of the output."""

    def output(self, *inputs: TensorSpec) -> TensorSpec:
        """See `Operator`."""
        return replace(inputs[0], size=self.size)

    def token(self, *inputs: TensorSpec) -> str:
        """See `Operator`."""
        return "resize"
