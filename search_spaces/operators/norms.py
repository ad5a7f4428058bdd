"""Normalization."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from search_spaces.operators.axes import Index, Parameter, Prefix
from search_spaces.operators.base import Operator
from search_spaces.tensors import TensorSpec


@dataclass(frozen=True, slots=True)
class BatchNorm(Operator):
    """Batch normalization (Ioffe and Szegedy 2015)."""

    in_place: ClassVar[bool] = True
    eps: float = 1e-5

    def output(self, *inputs: TensorSpec) -> TensorSpec:
        """See `Operator`."""
        return inputs[0]

    def parameters(self, *inputs: TensorSpec) -> Mapping[str, Parameter]:
        """See `Operator`."""
        axes = (Prefix(inputs[0].channels),)
        learned = {name: Parameter(axes) for name in ("weight", "bias")}
        return learned | {name: Parameter(axes, learned=False) for name in ("running_mean", "running_var")}

    def token(self, *inputs: TensorSpec) -> str:
        """See `Operator`."""
        return "batch_norm"


@dataclass(frozen=True, slots=True)
class LayerNorm(Operator):
    """Layer normalization over the active channels of each token or vector (Ba et al. 2016)."""

    eps: float = 1e-5
    over_tokens: bool = False
    """Normalize all tokens together (NASViT, Gong et al. 2022); each channel has one weight and bias."""

    def output(self, *inputs: TensorSpec) -> TensorSpec:
        """See `Operator`."""
        return inputs[0]

    def parameters(self, *inputs: TensorSpec) -> Mapping[str, Parameter]:
        """See `Operator`."""
        return {name: Parameter((Prefix(inputs[0].channels),)) for name in ("weight", "bias")}

    def token(self, *inputs: TensorSpec) -> str:
        """See `Operator`."""
        return "layer_norm" + " tokens" * self.over_tokens


@dataclass(frozen=True, slots=True)
class GroupNorm(Operator):
    """Normalization of groups of channels of each feature map (Wu and He 2018)."""

    in_integers: ClassVar[bool] = False
    groups: int
    eps: float = 1e-5

    def output(self, *inputs: TensorSpec) -> TensorSpec:
        """See `Operator`."""
        return inputs[0]

    def parameters(self, *inputs: TensorSpec) -> Mapping[str, Parameter]:
        """See `Operator`."""
        return {name: Parameter((Prefix(inputs[0].channels),)) for name in ("weight", "bias")}

    def token(self, *inputs: TensorSpec) -> str:
        """See `Operator`."""
        return f"group_norm {self.groups}"


@dataclass(frozen=True, slots=True)
class Scale(Operator):
    """Product with a learned factor for each channel: LayerScale (Touvron et al. 2021, §3).

    Each of several options may have its own factors (switchable scaling, NASViT, Gong et al. 2022).
    """

    in_place: ClassVar[bool] = True
    init: float = 1e-5
    """Initial value of the factors."""
    of_image: bool = False
    """Whether the input is a feature map."""
    option: tuple[int, ...] = ()
    """Indices of the option on the leading axes of the table of factors; empty: there is one option."""
    multiplier: float = 1.0
    """Constant by which the factors are multiplied."""

    def output(self, *inputs: TensorSpec) -> TensorSpec:
        """See `Operator`."""
        return inputs[0]

    def parameters(self, *inputs: TensorSpec) -> Mapping[str, Parameter]:
        """See `Operator`."""
        axes = (*map(Index, self.option), Prefix(inputs[0].channels))
        return {"weight": Parameter(axes, decayed=False)}

    def token(self, *inputs: TensorSpec) -> str:
        """See `Operator`."""
        return "scale"
