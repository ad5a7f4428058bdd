"""Arithmetic with constants."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from search_spaces.operators.axes import Parameter, Prefix
from search_spaces.operators.base import Operator
from search_spaces.tensors import TensorSpec

Function = Literal["add", "subtract", "subtract_from", "multiply", "divide"]
"""Function of an element x and a constant c: x + c, x - c, c - x, x · c or x / c."""


@dataclass(frozen=True, slots=True)
class Arithmetic(Operator):
    """Arithmetic of each element with a number."""

    in_integers: ClassVar[bool] = False
    function: Function
    value: float

    def output(self, *inputs: TensorSpec) -> TensorSpec:
        """See `Operator`."""
        return inputs[0]

    def token(self, *inputs: TensorSpec) -> str:
        """See `Operator`."""
        return self.function


@dataclass(frozen=True, slots=True)
class ChannelArithmetic(Operator):
    """Arithmetic of each element with a number for its channel: means and deviations of images, biases."""

    in_integers: ClassVar[bool] = False
    function: Function
    learned: bool = False
    """Whether the numbers are trained by gradients."""
    of_image: bool = False
    """Whether the input is a feature map."""

    def output(self, *inputs: TensorSpec) -> TensorSpec:
        """See `Operator`."""
        return inputs[0]

    def parameters(self, *inputs: TensorSpec) -> Mapping[str, Parameter]:
        """See `Operator`."""
        return {"value": Parameter((Prefix(inputs[0].channels),), learned=self.learned, decayed=False)}

    def token(self, *inputs: TensorSpec) -> str:
        """See `Operator`."""
        return f"channel_{self.function}"
