"""Pooling and resizing of feature maps."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from search_spaces.operators.base import Operator
from search_spaces.tensors import TensorSpec


@dataclass(frozen=True, slots=True)
class Pool2d(Operator):
    """Pooling over square windows."""

    kernel: int
    stride: int
    padding: int = 0
    """Pixels on each side."""
    ceil_mode: bool = False
    """Whether there is one more window where pixels remain at the end, if it starts before the padding."""

    def output(self, *inputs: TensorSpec) -> TensorSpec:
        """See `Operator`."""
        return replace(inputs[0], size=tuple(map(self._windows, inputs[0].size)))

    def extends(self, source: TensorSpec) -> bool:
        """Whether the last window extends beyond the padded input; only pixels inside count there."""
        return self.output(source) != replace(self, ceil_mode=False).output(source)

    def _windows(self, size: int) -> int:
        rest = size + 2 * self.padding - self.kernel
        if not self.ceil_mode:
            return rest // self.stride + 1
        windows = -(-rest // self.stride) + 1
        return windows - ((windows - 1) * self.stride >= size + self.padding)

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
class GlobalMaxPool(Operator):
    """The largest value of each channel, as a feature map of one pixel."""

    in_integers: ClassVar[bool] = False

    def output(self, *inputs: TensorSpec) -> TensorSpec:
        """See `Operator`."""
        return replace(inputs[0], size=(1, 1))

    def token(self, *inputs: TensorSpec) -> str:
        """See `Operator`."""
        return "global_max_pool"


@dataclass(frozen=True, slots=True)
class AdaptiveAvgPool2d(Operator):
    """The mean of each cell of a grid of `size`; height and width of the input must be multiples of it.

    With a grid of one pixel, the result may differ from that of `GlobalAvgPool` by rounding, because the
    order of summation is different.
    """

    size: tuple[int, int] = (1, 1)
    """Height and width of the output."""

    def output(self, *inputs: TensorSpec) -> TensorSpec:
        """See `Operator`.

        Raises:
            ValueError: the height or width of the input is not a multiple of that of the grid.
        """
        height, width = inputs[0].size
        if height % self.size[0] or width % self.size[1]:
            raise ValueError(f"maps of {height}x{width} pixels must be multiples of the grid {self.size}")
        return replace(inputs[0], size=self.size)

    def token(self, *inputs: TensorSpec) -> str:
        """See `Operator`."""
        return "global_avg_pool" if self.size == (1, 1) else "adaptive_avg_pool"


@dataclass(frozen=True, slots=True)
class Resize(Operator):
    """Bicubic resizing: the convolution kernel with a = -0.75, pixel centres aligned, no antialiasing."""

    in_integers: ClassVar[bool] = False
    size: tuple[int, int]
    """Height and width of the output."""

    def output(self, *inputs: TensorSpec) -> TensorSpec:
        """See `Operator`."""
        return replace(inputs[0], size=self.size)

    def token(self, *inputs: TensorSpec) -> str:
        """See `Operator`."""
        return "resize"
