"""The conversion between precisions."""

from __future__ import annotations

from dataclasses import dataclass, replace

from search_spaces.operators.base import Operator
from search_spaces.tensors import Precision, TensorSpec


@dataclass(frozen=True, slots=True)
class Convert(Operator):
    """The same values in another precision, at the border between blocks of different precision."""

    precision: Precision
    unrounded: bool = False
    """Whether the values are in floating point already, because the INT8 block that computed them ends with
    an operator that is not computed with integers."""

    def output(self, *inputs: TensorSpec) -> TensorSpec:
        """See `Operator`."""
        return replace(inputs[0], precision=self.precision)

    def token(self, *inputs: TensorSpec) -> str:
        """See `Operator`."""
        return f"convert {self.precision}{' unrounded' if self.unrounded else ''}"
