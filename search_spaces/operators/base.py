"""What every operator says about itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from search_spaces.operators.axes import Parameter
from search_spaces.tensors import TensorSpec


class Operator(ABC):
    """One operation of a network, as a frozen value that is independent of its place in the network.

    All methods take the specs of its inputs. What torch, ONNX, the layer-wise latency model, the file size
    and the quantiser do with an operator is in one table each, over these classes.
    """

    __slots__ = ()

    in_place: ClassVar[bool] = False
    """Whether the output takes the memory of the first input."""

    @abstractmethod
    def output(self, *inputs: TensorSpec) -> TensorSpec:
        """Spec of the output."""

    @abstractmethod
    def token(self, *inputs: TensorSpec) -> str:
        """Text for a latency key, equal where inputs of equal specs take equal time."""

    def macs(self, *inputs: TensorSpec) -> int:
        """Multiply-accumulates for one image, counted as the OFA and AttentiveNAS papers do: convolutions and
        matrix products, without norms, activations, pooling, additions and biases."""
        return 0

    def parameters(self, *inputs: TensorSpec) -> Mapping[str, Parameter]:
        """Weights and statistics by name, each with the rule by which a smaller choice takes its part."""
        return {}

    def mixes_channels(self, *inputs: TensorSpec) -> bool:
        """Whether an output channel reads several input channels. Else channels keep their order."""
        return False
