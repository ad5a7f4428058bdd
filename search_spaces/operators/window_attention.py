"""Attention within windows of a grid of tokens, and the merging of neighbouring tokens (Swin)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from search_spaces.operators.attention import RelativeBias
from search_spaces.operators.axes import Parameter, Prefix
from search_spaces.operators.base import Operator
from search_spaces.tensors import TensorSpec


@dataclass(frozen=True, slots=True)
class WindowAttention(Operator):
    """Attention of the tokens of each window of a grid to one another, from queries, keys and values.

    The inputs are as in `Attention`. The grid consists of whole windows. A learned number for each distance
    and each head is added to the attention logits. A shift moves the windows cyclically; tokens that share a
    window only because of the cyclic shift do not attend to each other. Source: Swin (Liu et al. 2021, §3.2).
    """

    heads: int
    window: tuple[int, int]
    """Height and width of a window in tokens."""
    shift: tuple[int, int] = (0, 0)
    """Vertical and horizontal shift of the windows in tokens, along sides that have several windows."""
    normalized: bool = False
    """Whether queries and keys are divided by their norms, and their products multiplied by a learned number
    for each head (Swin V2, Liu et al. 2022, §3.2)."""

    def output(self, *inputs: TensorSpec) -> TensorSpec:
        """See `Operator`."""
        return replace(inputs[0], channels=inputs[0].channels // 3)

    def head_dim(self, *inputs: TensorSpec) -> int:
        """Channels of one head."""
        return inputs[0].channels // 3 // self.heads

    def shifts(self, *inputs: TensorSpec) -> tuple[int, int]:
        """The shift for a grid: none along sides with one window."""
        rows, columns = (
            shift if side > window else 0
            for shift, side, window in zip(self.shift, inputs[0].size, self.window, strict=True)
        )
        return rows, columns

    def macs(self, *inputs: TensorSpec) -> int:
        """See `Attention`."""
        return 2 * inputs[0].pixels * math.prod(self.window) * inputs[0].channels // 3

    def parameters(self, *inputs: TensorSpec) -> Mapping[str, Parameter]:
        """See `Operator`."""
        bias = RelativeBias(self.window).parameters(self.heads, self.head_dim(*inputs))
        return {**bias, "scale": Parameter((Prefix(self.heads),))} if self.normalized else bias

    def workspace(self, *inputs: TensorSpec) -> int:
        """See `Operator`: the attention weights of all heads."""
        return self.heads * inputs[0].pixels * math.prod(self.window)

    def mixes_channels(self, *inputs: TensorSpec) -> bool:
        """See `Operator`."""
        return True

    def token(self, *inputs: TensorSpec) -> str:
        """See `Operator`."""
        shifts = self.shifts(*inputs)
        text = f"window_attention {self.heads}x{self.head_dim(*inputs)} {self.window[0]}x{self.window[1]}"
        text += " normalized" * self.normalized
        return text + f" shift {shifts[0]}x{shifts[1]}" * any(shifts)


@dataclass(frozen=True, slots=True)
class MergeTokens(Operator):
    """Concatenate the channels of each 2 x 2 tokens of a grid into one token, column by column."""

    def output(self, *inputs: TensorSpec) -> TensorSpec:
        """See `Operator`."""
        rows, columns = inputs[0].size
        return replace(inputs[0], channels=4 * inputs[0].channels, size=(rows // 2, columns // 2))

    def token(self, *inputs: TensorSpec) -> str:
        """See `Operator`."""
        return "merge_tokens"
