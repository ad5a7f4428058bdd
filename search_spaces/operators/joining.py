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
class Multiply(Operator):
    """Product of a tensor with another one of its shape, or with one of a single pixel."""

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
    """The channels from `start` to `end`, exclusive."""

    start: int
    end: int

    def output(self, *inputs: TensorSpec) -> TensorSpec:
        """See `Operator`."""
        return replace(inputs[0], channels=self.end - self.start)

    def token(self, *inputs: TensorSpec) -> str:
        """See `Operator`."""
        return f"slice {self.start}:{self.end}"


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
