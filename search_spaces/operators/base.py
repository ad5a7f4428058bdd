"""The interface of operators."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from search_spaces.operators.axes import Parameter
from search_spaces.tensors import TensorSpec


class Operator(ABC):
    """An operator of a network, independent of its position in the network.

    All methods take the specs of the inputs. The torch backend, the ONNX backend, the layer-wise latency
    model, the file size and the quantizer each have a table with an entry for every operator.
    """

    __slots__ = ()

    in_place: ClassVar[bool] = False
    """Whether the output uses the memory of the first input."""
    in_integers: ClassVar[bool] = True
    """Whether the operator may be computed with integers in an INT8 block; otherwise its output is in
    floating point."""

    @abstractmethod
    def output(self, *inputs: TensorSpec) -> TensorSpec:
        """Spec of the output."""

    @abstractmethod
    def token(self, *inputs: TensorSpec) -> str:
        """Text for a latency key: operators with equal tokens and input specs have equal latencies."""

    def macs(self, *inputs: TensorSpec) -> int:
        """Multiply-accumulates for one image, counted as the OFA and AttentiveNAS papers do: convolutions and
        matrix products, without norms, activations, pooling, additions and biases."""
        return 0

    def parameters(self, *inputs: TensorSpec) -> Mapping[str, Parameter]:
        """Weights and statistics by name, with their slicing rules."""
        return {}

    def workspace(self, *inputs: TensorSpec) -> int:
        """Number of temporary values for one image while the operator runs, without its inputs and output."""
        return 0

    def mixes_channels(self, *inputs: TensorSpec) -> bool:
        """Whether an output channel reads several input channels."""
        return False
