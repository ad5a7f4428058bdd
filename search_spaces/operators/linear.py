"""Operators that compute products of weights and inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

from search_spaces.operators.axes import Centre, Groups, Parameter, Prefix
from search_spaces.operators.base import Operator
from search_spaces.tensors import TensorSpec


@dataclass(frozen=True, slots=True)
class Conv2d(Operator):
    """2-D convolution."""

    channels: int
    """Output channels."""
    kernel: tuple[int, int] = (1, 1)
    """Height and width in pixels."""
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    """Zero padding at top, left, bottom and right, in pixels."""
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    bias: bool = False

    @classmethod
    def same(
        cls, channels: int, kernel: int = 1, stride: int = 1, *, groups: int = 1, bias: bool = False
    ) -> Self:
        """A square convolution with padding `kernel // 2`; sizes are divided by the stride and rounded up."""
        return cls(channels, (kernel,) * 2, (stride,) * 2, (kernel // 2,) * 4, groups=groups, bias=bias)

    def output(self, *inputs: TensorSpec) -> TensorSpec:
        """See `Operator`."""
        top, left, bottom, right = self.padding
        padded = (inputs[0].size[0] + top + bottom, inputs[0].size[1] + left + right)
        height, width = (
            (padded[i] - self.dilation[i] * (self.kernel[i] - 1) - 1) // self.stride[i] + 1 for i in (0, 1)
        )
        return replace(inputs[0], channels=self.channels, size=(height, width))

    def macs(self, *inputs: TensorSpec) -> int:
        """See `Operator`."""
        height, width = self.kernel
        return inputs[0].channels // self.groups * height * width * self.output(*inputs).numel

    def parameters(self, *inputs: TensorSpec) -> Mapping[str, Parameter]:
        """See `Operator`."""
        height, width = self.kernel
        c_in = inputs[0].channels // self.groups
        weight = Parameter((Prefix(self.channels), Prefix(c_in), Centre(height), Centre(width)))
        return {"weight": weight} | ({"bias": Parameter((Prefix(self.channels),))} if self.bias else {})

    def mixes_channels(self, *inputs: TensorSpec) -> bool:
        """See `Operator`."""
        return self.groups == 1

    def token(self, *inputs: TensorSpec) -> str:
        """See `Operator`."""
        words = [f"conv{self.kernel[0]}x{self.kernel[1]}", f"{inputs[0].channels}>{self.channels}"]
        words += [f"s{_pair(self.stride)}"] * (self.stride != (1, 1))
        half = tuple(kernel // 2 for kernel in self.kernel)
        if self.padding != half * 2:
            words.append("p" + ",".join(map(str, self.padding)))
        words += [f"d{_pair(self.dilation)}"] * (self.dilation != (1, 1))
        words += [f"g{self.groups}"] * (self.groups > 1)
        words += ["bias"] * self.bias
        return " ".join(words)


@dataclass(frozen=True, slots=True)
class Linear(Operator):
    """Matrix product over the channels of a vector or of tokens."""

    channels: int
    """Output features."""
    bias: bool = False
    parts: int = 1
    """Number of equal groups of outputs, each of which is sliced separately: queries, keys and values."""
    flat_bias: bool = False
    """Slice the bias as one group, as the published weights of AutoFormer require."""

    def output(self, *inputs: TensorSpec) -> TensorSpec:
        """See `Operator`."""
        return replace(inputs[0], channels=self.channels)

    def macs(self, *inputs: TensorSpec) -> int:
        """See `Operator`."""
        return inputs[0].numel * self.channels

    def parameters(self, *inputs: TensorSpec) -> Mapping[str, Parameter]:
        """See `Operator`."""
        flat = Prefix(self.channels)
        rows = Groups(self.parts, self.channels // self.parts) if self.parts > 1 else flat
        weight = Parameter((rows, Prefix(inputs[0].channels)))
        bias = Parameter((flat if self.flat_bias else rows,))
        return {"weight": weight} | ({"bias": bias} if self.bias else {})

    def mixes_channels(self, *inputs: TensorSpec) -> bool:
        """See `Operator`."""
        return True

    def token(self, *inputs: TensorSpec) -> str:
        """See `Operator`."""
        return f"linear {inputs[0].channels}>{self.channels}" + " bias" * self.bias


def _pair(values: tuple[int, int]) -> str:
    """`2` for (2, 2), `2x1` for (2, 1)."""
    return str(values[0]) if values[0] == values[1] else f"{values[0]}x{values[1]}"
