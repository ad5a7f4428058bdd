"""Helpers for families of spaces: a builder of blocks, and the rounding of channels."""

from __future__ import annotations

from search_spaces.graph import Block, Node
from search_spaces.operators import ACTIVATIONS, BatchNorm, Conv2d, Flatten, GlobalAvgPool, Linear, Operator
from search_spaces.tensors import TensorSpec


class BlockBuilder:
    """Collects the nodes of one block in order.

    Each method appends nodes and returns the index of the last one. A node reads the one before it unless
    `after` says otherwise.

    Args:
        name: name of the block.
        inputs: specs of the inputs of the block.
        norm_eps: epsilon of the block's batch norms.
    """

    def __init__(self, name: str, *inputs: TensorSpec, norm_eps: float = 1e-5) -> None:
        self.name = name
        self.norm_eps = norm_eps
        self._inputs = inputs
        self._nodes: list[Node] = []

    @property
    def last(self) -> int:
        """Index of the last node; `BLOCK_INPUT` if there is none."""
        return len(self._nodes) - 1

    def spec(self, index: int) -> TensorSpec:
        """Spec of a node's output, or of an input for a negative index."""
        return self._inputs[-1 - index] if index < 0 else self._nodes[index].output

    def build(self, *outputs: int) -> Block:
        """The block; by default its output is the last node."""
        return Block(self.name, self._inputs, tuple(self._nodes), outputs or (self.last,))

    def add(self, op: Operator, name: str, *after: int) -> int:
        """Add an operator that reads the nodes with the indices `after`, by default the last node."""
        sources = after or (self.last,)
        self._nodes.append(Node(op, name, self.name, sources, tuple(map(self.spec, sources))))
        return self.last

    def conv(
        self,
        name: str,
        channels: int,
        *,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        norm: bool = True,
        bias: bool = False,
        activation: str = "none",
        after: int | None = None,
    ) -> int:
        """A convolution with its batch norm `NAME.norm` and activation `NAME.act`; output sizes round up."""
        op = Conv2d.same(channels, kernel, stride, groups=groups, bias=bias)
        self.add(op, name, *(() if after is None else (after,)))
        if norm:
            self.add(BatchNorm(self.norm_eps), f"{name}.norm")
        return self._activate(name, activation)

    def depthwise(self, name: str, kernel: int, stride: int, *, activation: str) -> int:
        """A depthwise convolution with its batch norm."""
        channels = self.spec(self.last).channels
        return self.conv(name, channels, kernel=kernel, stride=stride, groups=channels, activation=activation)

    def linear(self, name: str, channels: int, *, bias: bool = False, activation: str = "none") -> int:
        """A linear layer on a vector or on tokens."""
        self.add(Linear(channels, bias), name)
        return self._activate(name, activation)

    def pooled_features(self, name: str) -> int:
        """The mean of each channel as a vector."""
        self.add(GlobalAvgPool(), name)
        return self.add(Flatten(), f"{name}.flat")

    def combine(self, op: Operator, name: str, first: int, second: int, *, activation: str = "none") -> int:
        """An operator on two tensors; the result has the shape of `first`."""
        self.add(op, name, first, second)
        return self._activate(name, activation)

    def _activate(self, name: str, activation: str) -> int:
        return self.last if activation == "none" else self.add(ACTIVATIONS[activation], f"{name}.act")


def make_divisible(channels: float, divisor: int) -> int:
    """The multiple of `divisor` nearest to `channels`, at least `divisor` and never below 90 % of `channels`.

    Source: MobileNetV2 (Sandler et al. 2018), as all OFA-like spaces use it.
    """
    result = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return result + divisor if result < 0.9 * channels else result
