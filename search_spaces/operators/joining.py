"""Operators that combine, slice or reshape tensors."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from search_spaces.operators.base import Operator
from search_spaces.tensors import TensorSpec, vector


@dataclass(frozen=True, slots=True)
class Add(Operator):
    """Sum of two tensors of equal shape."""

    def output(self, *inputs: TensorSpec) -> TensorSpec:
        """See `Operator`."""
        return inputs[0]

    def token(self, *inputs: TensorSpec) -> str:
        """See `Operator`."""
        return "add"


@dataclass(frozen=True, slots=True)
class Subtract(Operator):
    """Difference of two tensors of equal shape."""

    in_integers: ClassVar[bool] = False

    def output(self, *inputs: TensorSpec) -> TensorSpec:
        """See `Operator`."""
        return inputs[0]

    def token(self, *inputs: TensorSpec) -> str:
        """See `Operator`."""
        return "subtract"


@dataclass(frozen=True, slots=True)
class Multiply(Operator):
    """Product of two tensors of equal shape, or of a tensor and a second one with a single pixel."""

    def output(self, *inputs: TensorSpec) -> TensorSpec:
        """See `Operator`."""
        return inputs[0]

    def token(self, *inputs: TensorSpec) -> str:
        """See `Operator`."""
        return "multiply"


@dataclass(frozen=True, slots=True)
class Concat(Operator):
    """Concatenation of several tensors along the channels."""

    def output(self, *inputs: TensorSpec) -> TensorSpec:
        """See `Operator`."""
        return replace(inputs[0], channels=sum(spec.channels for spec in inputs))

    def token(self, *inputs: TensorSpec) -> str:
        """See `Operator`."""
        return "concat " + "+".join(str(spec.channels) for spec in inputs)


@dataclass(frozen=True, slots=True)
class Slice(Operator):
    """The channels from `start` to `end`, exclusive, of each of `groups` equal groups of channels."""

    start: int
    end: int
    groups: int = 1

    def output(self, *inputs: TensorSpec) -> TensorSpec:
        """See `Operator`."""
        return replace(inputs[0], channels=self.groups * (self.end - self.start))

    def token(self, *inputs: TensorSpec) -> str:
        """See `Operator`."""
        return f"slice {self.start}:{self.end}" + f" g{self.groups}" * (self.groups > 1)


@dataclass(frozen=True, slots=True)
class ChannelShuffle(Operator):
    """Channel shuffle (ShuffleNet, Zhang et al. 2018): write the groups of channels as the rows of a matrix
    and read the matrix column by column."""

    groups: int

    def output(self, *inputs: TensorSpec) -> TensorSpec:
        """See `Operator`."""
        return inputs[0]

    def token(self, *inputs: TensorSpec) -> str:
        """See `Operator`."""
        return f"channel_shuffle {self.groups}"


@dataclass(frozen=True, slots=True)
class ChannelsLast(Operator):
    """A feature map as a grid of tokens: the channels become the last dimension."""

    def output(self, *inputs: TensorSpec) -> TensorSpec:
        """See `Operator`."""
        return replace(inputs[0], layout="tokens")

    def token(self, *inputs: TensorSpec) -> str:
        """See `Operator`."""
        return "channels_last"


@dataclass(frozen=True, slots=True)
class ChannelsFirst(Operator):
    """A grid of tokens as a feature map."""

    def output(self, *inputs: TensorSpec) -> TensorSpec:
        """See `Operator`."""
        return replace(inputs[0], layout="image")

    def token(self, *inputs: TensorSpec) -> str:
        """See `Operator`."""
        return "channels_first"


@dataclass(frozen=True, slots=True)
class Flatten(Operator):
    """All elements as a vector, channel by channel."""

    in_place: ClassVar[bool] = True

    def output(self, *inputs: TensorSpec) -> TensorSpec:
        """See `Operator`."""
        return replace(vector(inputs[0].numel), precision=inputs[0].precision)

    def token(self, *inputs: TensorSpec) -> str:
        """See `Operator`."""
        return "flatten"


@dataclass(frozen=True, slots=True)
class ToPixel(Operator):
    """A vector as a feature map of one pixel."""

    in_place: ClassVar[bool] = True

    def output(self, *inputs: TensorSpec) -> TensorSpec:
        """See `Operator`."""
        return replace(inputs[0], layout="image", size=(1, 1))

    def token(self, *inputs: TensorSpec) -> str:
        """See `Operator`."""
        return "to_pixel"
