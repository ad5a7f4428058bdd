"""Activation functions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from search_spaces.operators.axes import Parameter, Prefix
from search_spaces.operators.base import Operator
from search_spaces.tensors import TensorSpec


@dataclass(frozen=True, slots=True)
class Activation(Operator):
    """A function of each element."""

    in_place: ClassVar[bool] = True
    name: ClassVar[str]
    """Name in YAML files and latency keys."""

    def output(self, *inputs: TensorSpec) -> TensorSpec:
        """See `Operator`."""
        return inputs[0]

    def token(self, *inputs: TensorSpec) -> str:
        """See `Operator`."""
        return self.name


@dataclass(frozen=True, slots=True)
class Relu(Activation):
    """max(x, 0)."""

    name: ClassVar[str] = "relu"


@dataclass(frozen=True, slots=True)
class Relu6(Activation):
    """min(max(x, 0), 6)."""

    name: ClassVar[str] = "relu6"


@dataclass(frozen=True, slots=True)
class HardSwish(Activation):
    """x · relu6(x + 3) / 6 (MobileNetV3, Howard et al. 2019)."""

    name: ClassVar[str] = "hard_swish"
    in_integers: ClassVar[bool] = False


@dataclass(frozen=True, slots=True)
class Swish(Activation):
    """x · sigmoid(x), also called SiLU."""

    name: ClassVar[str] = "swish"


@dataclass(frozen=True, slots=True)
class Sigmoid(Activation):
    """1 / (1 + exp(-x))."""

    name: ClassVar[str] = "sigmoid"


@dataclass(frozen=True, slots=True)
class HardSigmoid(Activation):
    """relu6(x + 3) / 6."""

    name: ClassVar[str] = "hard_sigmoid"
    in_integers: ClassVar[bool] = False


@dataclass(frozen=True, slots=True)
class Gelu(Activation):
    """x · Φ(x), with the error function and not its approximation by tanh (Hendrycks and Gimpel 2016)."""

    name: ClassVar[str] = "gelu"
    in_integers: ClassVar[bool] = False


@dataclass(frozen=True, slots=True)
class GeluTanh(Activation):
    """The approximation of GELU by tanh (Hendrycks and Gimpel 2016, §2)."""

    name: ClassVar[str] = "gelu_tanh"
    in_integers: ClassVar[bool] = False


@dataclass(frozen=True, slots=True)
class Mish(Activation):
    """x · tanh(log(1 + exp(x))) (Misra 2020)."""

    name: ClassVar[str] = "mish"
    in_integers: ClassVar[bool] = False


@dataclass(frozen=True, slots=True)
class LeakyRelu(Activation):
    """max(x, slope · x)."""

    name: ClassVar[str] = "leaky_relu"
    slope: float = 0.01

    def token(self, *inputs: TensorSpec) -> str:
        """See `Operator`."""
        return f"{self.name} {self.slope:g}"


@dataclass(frozen=True, slots=True)
class Elu(Activation):
    """x, or exp(x) - 1 below 0 (Clevert et al. 2016)."""

    name: ClassVar[str] = "elu"
    in_integers: ClassVar[bool] = False


@dataclass(frozen=True, slots=True)
class Tanh(Activation):
    """The hyperbolic tangent."""

    name: ClassVar[str] = "tanh"
    in_integers: ClassVar[bool] = False


@dataclass(frozen=True, slots=True)
class PRelu(Operator):
    """max(x, 0) + slope · min(x, 0), with a learned slope for each channel (He et al. 2015)."""

    in_place: ClassVar[bool] = True
    in_integers: ClassVar[bool] = False

    def output(self, *inputs: TensorSpec) -> TensorSpec:
        """See `Operator`."""
        return inputs[0]

    def parameters(self, *inputs: TensorSpec) -> Mapping[str, Parameter]:
        """See `Operator`."""
        return {"weight": Parameter((Prefix(inputs[0].channels),), decayed=False)}

    def token(self, *inputs: TensorSpec) -> str:
        """See `Operator`."""
        return "prelu"


ACTIVATIONS: Mapping[str, Activation] = {
    activation.name: activation
    for activation in (
        *(Relu(), Relu6(), HardSwish(), Swish(), Sigmoid(), HardSigmoid(), Gelu()),
        *(GeluTanh(), Mish(), LeakyRelu(), Elu(), Tanh()),
    )
}
"""Activations by the names of YAML files."""
