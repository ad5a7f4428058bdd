"""Operators on tokens: from images to tokens, learned tokens and positions, pooling."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from search_spaces.operators.axes import Centre, Parameter, Prefix
from search_spaces.operators.base import Operator
from search_spaces.tensors import TensorSpec, tokens, vector


@dataclass(frozen=True, slots=True)
class ImageToTokens(Operator):
    """The pixels of a feature map as tokens, row by row."""

    def output(self, *inputs: TensorSpec) -> TensorSpec:
        """See `Operator`."""
        return replace(tokens(inputs[0].pixels, inputs[0].channels), precision=inputs[0].precision)

    def token(self, *inputs: TensorSpec) -> str:
        """See `Operator`."""
        return "to_tokens"


@dataclass(frozen=True, slots=True)
class TokensToImage(Operator):
    """Tokens as the pixels of a feature map, row by row."""

    size: tuple[int, int]
    """Height and width of the feature map."""

    def output(self, *inputs: TensorSpec) -> TensorSpec:
        """See `Operator`."""
        return replace(inputs[0], layout="image", size=self.size)

    def token(self, *inputs: TensorSpec) -> str:
        """See `Operator`."""
        return "to_image"


@dataclass(frozen=True, slots=True)
class PrependTokens(Operator):
    """Learned tokens before the others: the class token and registers (Dosovitskiy et al. 2021, §3.1)."""

    count: int

    def output(self, *inputs: TensorSpec) -> TensorSpec:
        """See `Operator`."""
        return replace(inputs[0], size=(inputs[0].pixels + self.count,))

    def parameters(self, *inputs: TensorSpec) -> Mapping[str, Parameter]:
        """See `Operator`."""
        axes = (Prefix(self.count), Prefix(inputs[0].channels))
        return {"weight": Parameter(axes, decayed=False)}

    def token(self, *inputs: TensorSpec) -> str:
        """See `Operator`."""
        return f"prepend {self.count}"


@dataclass(frozen=True, slots=True)
class AddPositions(Operator):
    """Adds a learned vector to each token.

    A smaller grid uses the vectors in the middle of the largest grid.
    """

    grid: tuple[int, int]
    """Height and width of the grid of patches."""
    prefix: int = 0
    """Number of tokens before the patches; they have positions too."""

    def output(self, *inputs: TensorSpec) -> TensorSpec:
        """See `Operator`."""
        return inputs[0]

    def parameters(self, *inputs: TensorSpec) -> Mapping[str, Parameter]:
        """See `Operator`."""
        channels = Prefix(inputs[0].channels)
        patches = {"grid": Parameter((Centre(self.grid[0]), Centre(self.grid[1]), channels), decayed=False)}
        if not self.prefix:
            return patches
        return patches | {"prefix": Parameter((Prefix(self.prefix), channels), decayed=False)}

    def token(self, *inputs: TensorSpec) -> str:
        """See `Operator`."""
        return "add_positions"


@dataclass(frozen=True, slots=True)
class TakeToken(Operator):
    """One token as a vector."""

    index: int = 0

    def output(self, *inputs: TensorSpec) -> TensorSpec:
        """See `Operator`."""
        return replace(vector(inputs[0].channels), precision=inputs[0].precision)

    def token(self, *inputs: TensorSpec) -> str:
        """See `Operator`."""
        return f"take_token {self.index}"


@dataclass(frozen=True, slots=True)
class MeanTokens(Operator):
    """The mean of the tokens as a vector."""

    skip: int = 0
    """Number of tokens at the start that are left out."""

    def output(self, *inputs: TensorSpec) -> TensorSpec:
        """See `Operator`."""
        return replace(vector(inputs[0].channels), precision=inputs[0].precision)

    def token(self, *inputs: TensorSpec) -> str:
        """See `Operator`."""
        return f"mean_tokens {self.skip}"
