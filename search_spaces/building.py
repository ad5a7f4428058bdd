"""Writing the layers of a block: indices, channels and sizes follow from what a layer reads."""

from __future__ import annotations

from search_spaces.layers import BLOCK_INPUT, Activation, Block, LayerSpec, Op


class BlockBuilder:
    """Collects the layers of one block in order.

    Each method appends a layer and returns its index. A layer reads the one before it unless `after` says
    otherwise.

    Args:
        name: of the block.
        channels: of the feature map that enters the block.
        size: its side in pixels.
        norm_eps: epsilon of the block's batch norms.
    """

    def __init__(self, name: str, channels: int, size: int, norm_eps: float) -> None:
        self.name = name
        self.norm_eps = norm_eps
        self._entry = (channels, size)
        self._layers: list[LayerSpec] = []

    @property
    def last(self) -> int:
        """Index of the last layer so far, at first `BLOCK_INPUT`."""
        return len(self._layers) - 1

    def shape(self, index: int) -> tuple[int, int]:
        """Channels and size of what a layer hands on."""
        if index == BLOCK_INPUT:
            return self._entry
        return self._layers[index].c_out, self._layers[index].size_out

    def build(self) -> Block:
        """The block."""
        return tuple(self._layers)

    def conv(
        self,
        name: str,
        c_out: int,
        *,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        norm: bool = True,
        bias: bool = False,
        activation: Activation = "none",
        after: int | None = None,
    ) -> int:
        """A convolution; a stride rounds the size up."""
        source = self.last if after is None else after
        c_in, size = self.shape(source)
        layer = LayerSpec(
            "conv",
            name,
            self.name,
            (source,),
            c_in,
            c_out,
            size,
            -(-size // stride),
            kernel,
            stride,
            groups=groups,
            bias=bias,
            norm_eps=self.norm_eps if norm else None,
            activation=activation,
        )
        return self._append(layer)

    def depthwise(self, name: str, kernel: int, stride: int, *, activation: Activation) -> int:
        """A convolution of each channel alone."""
        channels, _ = self.shape(self.last)
        return self.conv(name, channels, kernel=kernel, stride=stride, groups=channels, activation=activation)

    def linear(self, name: str, c_out: int, *, bias: bool = False, activation: Activation = "none") -> int:
        """A linear layer on pooled maps."""
        c_in, _ = self.shape(self.last)
        layer = LayerSpec(
            "linear", name, self.name, (self.last,), c_in, c_out, 1, 1, bias=bias, activation=activation
        )
        return self._append(layer)

    def pool(
        self,
        op: Op,
        name: str,
        *,
        kernel: int,
        stride: int,
        padding: int = 0,
        after: int | None = None,
    ) -> int:
        """An `avg_pool` or `max_pool`; a stride rounds the size up."""
        source = self.last if after is None else after
        channels, size = self.shape(source)
        layer = LayerSpec(
            op,
            name,
            self.name,
            (source,),
            channels,
            channels,
            size,
            -(-size // stride),
            kernel,
            stride,
            padding=padding,
        )
        return self._append(layer)

    def global_avg_pool(self, name: str) -> int:
        """The mean of each channel."""
        return self._resized("global_avg_pool", name, 1)

    def resize(self, name: str, size: int) -> int:
        """Bicubic resizing."""
        return self._resized("resize", name, size)

    def combine(self, op: Op, name: str, first: int, second: int, *, activation: Activation = "none") -> int:
        """`add` or `multiply` two layers; the result has the shape of `first`."""
        channels, size = self.shape(first)
        layer = LayerSpec(
            op, name, self.name, (first, second), channels, channels, size, size, activation=activation
        )
        return self._append(layer)

    def _resized(self, op: Op, name: str, size_out: int) -> int:
        channels, size = self.shape(self.last)
        return self._append(LayerSpec(op, name, self.name, (self.last,), channels, channels, size, size_out))

    def _append(self, layer: LayerSpec) -> int:
        self._layers.append(layer)
        return self.last
