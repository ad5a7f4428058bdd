"""Multi-head self-attention (Vaswani et al. 2017, §3.2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from search_spaces.operators.axes import Centre, Parameter, Prefix
from search_spaces.operators.base import Operator
from search_spaces.tensors import TensorSpec

MIXINGS = ("before", "after")
"""Linear layers of talking heads, before and after the softmax."""


@dataclass(frozen=True, slots=True)
class RelativeTables:
    """Learned vectors for the distances of tokens, added to keys and to values.

    One pair of tables is for vertical and one for horizontal distances; all heads share them. The first row
    is for pairs with a token that is not a patch. Source: AutoFormer (Chen et al. 2021, §3.3).
    """

    grid: tuple[int, int]
    """Height and width of the grid of patches."""
    prefix: int
    """Number of tokens before the patches."""
    distance: int
    """Largest distance in the tables; larger distances are clipped to it."""

    def parameters(self, heads: int, head_dim: int) -> Mapping[str, Parameter]:
        """The tables by name."""
        table = Parameter((Prefix(2 * self.distance + 2), Prefix(head_dim)), decayed=False)
        return {f"{part}_{axis}": table for part in ("key", "value") for axis in ("rows", "columns")}


@dataclass(frozen=True, slots=True)
class RelativeBias:
    """A learned number for each distance of two patches and each head, added to the attention logits.

    A smaller grid uses the numbers in the middle of the table. Source: Swin (Liu et al. 2021, §3.2).
    """

    grid: tuple[int, int]
    """Height and width of the grid of patches; there are no other tokens."""

    def parameters(self, heads: int, head_dim: int) -> Mapping[str, Parameter]:
        """The table by name."""
        height, width = (Centre(2 * size - 1) for size in self.grid)
        return {"bias": Parameter((height, width, Prefix(heads)), decayed=False)}


@dataclass(frozen=True, slots=True)
class Attention(Operator):
    """Attention of all tokens to all tokens.

    The inputs are queries, keys and values, each with the channels of one head after the other; or one
    tensor, their concatenation, in which all three have equal numbers of channels.
    """

    heads: int
    relative: RelativeTables | RelativeBias | None = None
    """Relative positions."""
    talking_heads: bool = False
    """Mix the heads by a linear layer before and after the softmax (Shazeer et al. 2020)."""

    def output(self, *inputs: TensorSpec) -> TensorSpec:
        """See `Operator`."""
        return replace(inputs[0], channels=self._channels(*inputs)[1])

    def head_dim(self, *inputs: TensorSpec) -> int:
        """Channels of one head of the queries."""
        return self._channels(*inputs)[0] // self.heads

    def _channels(self, *inputs: TensorSpec) -> tuple[int, int]:
        """Channels of the queries and of the values."""
        if len(inputs) == 1:
            return (inputs[0].channels // 3,) * 2
        return inputs[0].channels, inputs[2].channels

    def macs(self, *inputs: TensorSpec) -> int:
        """MACs of the products of queries and keys, of attention weights and values, and of talking heads.

        Relative positions are not counted.
        """
        mixing = 2 * self.heads**2 if self.talking_heads else 0
        return inputs[0].pixels ** 2 * (sum(self._channels(*inputs)) + mixing)

    def parameters(self, *inputs: TensorSpec) -> Mapping[str, Parameter]:
        """See `Operator`."""
        tables = self.relative.parameters(self.heads, self.head_dim(*inputs)) if self.relative else {}
        if not self.talking_heads:
            return tables
        heads = Prefix(self.heads)
        weights = {f"{name}_weight": Parameter((heads, heads), decayed=False) for name in MIXINGS}
        return {**tables, **weights, **{f"{name}_bias": Parameter((heads,)) for name in MIXINGS}}

    def workspace(self, *inputs: TensorSpec) -> int:
        """See `Operator`: the attention weights of all heads, twice while heads are mixed."""
        return int(self.heads * inputs[0].pixels ** 2) * (2 if self.talking_heads else 1)

    def mixes_channels(self, *inputs: TensorSpec) -> bool:
        """See `Operator`."""
        return True

    def token(self, *inputs: TensorSpec) -> str:
        """See `Operator`."""
        match self.relative:
            case RelativeTables():
                suffix = " relative_tables"
            case RelativeBias():
                suffix = " relative_bias"
            case None:
                suffix = ""
        queries, values = self._channels(*inputs)
        suffix += f" values {values // self.heads}" * (values != queries)
        suffix += " talking_heads" * self.talking_heads
        return f"attention {self.heads}x{self.head_dim(*inputs)}{suffix}"
