"""Creates operators from the rows in the files of traced spaces."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, Protocol

from pydantic import TypeAdapter, ValidationError

from search_spaces import operators as ops
from search_spaces.errors import one_line
from search_spaces.tensors import TensorSpec


class Template(Protocol):
    """A description of an operator that may depend on its inputs."""

    def operator(self, *inputs: TensorSpec) -> ops.Operator:
        """The operator for inputs with these specs."""


@dataclass(frozen=True, slots=True)
class Fixed:
    """An operator that does not depend on its inputs."""

    op: ops.Operator

    def operator(self, *inputs: TensorSpec) -> ops.Operator:
        """See `Template`."""
        return self.op


@dataclass(frozen=True, slots=True)
class Conv:
    """A convolution; a grouped one keeps the size of its groups for any number of channels."""

    channels: int | None = None
    """Output channels; None: as many as the input has."""
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] | Literal["same"] = (0, 0, 0, 0)
    """As in `Conv2d`; `same`: as TensorFlow pads, more at the end."""
    dilation: tuple[int, int] = (1, 1)
    group_size: int | None = None
    """Input channels of each group; None: one group."""
    bias: bool = False

    def operator(self, *inputs: TensorSpec) -> ops.Operator:
        """See `Template`."""
        source = inputs[0]
        padding = self._same(source.size) if self.padding == "same" else self.padding
        groups = 1 if self.group_size is None else source.channels // self.group_size
        channels = source.channels if self.channels is None else self.channels
        return ops.Conv2d(channels, self.kernel, self.stride, padding, self.dilation, groups, self.bias)

    def _same(self, size: tuple[int, ...]) -> tuple[int, int, int, int]:
        totals = []
        for pixels, kernel, stride, dilation in zip(
            size, self.kernel, self.stride, self.dilation, strict=True
        ):
            windows = -(-pixels // stride)
            totals.append(max(0, (windows - 1) * stride + dilation * (kernel - 1) + 1 - pixels))
        top, left = (total // 2 for total in totals)
        return top, left, totals[0] - top, totals[1] - left


@dataclass(frozen=True, slots=True)
class GroupNorm:
    """A group norm that keeps the size of its groups for any number of channels."""

    group_size: int
    """Channels of each group."""
    eps: float = 1e-5

    def operator(self, *inputs: TensorSpec) -> ops.Operator:
        """See `Template`."""
        return ops.GroupNorm(inputs[0].channels // self.group_size, self.eps)


OPERATORS: Mapping[str, type[Any]] = {
    "conv2d": Conv,
    "linear": ops.Linear,
    "batch_norm": ops.BatchNorm,
    "layer_norm": ops.LayerNorm,
    "group_norm": GroupNorm,
    "scale": ops.Scale,
    "prelu": ops.PRelu,
    "arithmetic": ops.Arithmetic,
    "channel_arithmetic": ops.ChannelArithmetic,
    "avg_pool2d": ops.AvgPool2d,
    "max_pool2d": ops.MaxPool2d,
    "adaptive_avg_pool2d": ops.AdaptiveAvgPool2d,
    "global_avg_pool": ops.GlobalAvgPool,
    "global_max_pool": ops.GlobalMaxPool,
    "add": ops.Add,
    "subtract": ops.Subtract,
    "multiply": ops.Multiply,
    "concat": ops.Concat,
    "slice": ops.Slice,
    "channel_shuffle": ops.ChannelShuffle,
    "channels_last": ops.ChannelsLast,
    "channels_first": ops.ChannelsFirst,
    "flatten": ops.Flatten,
    "to_pixel": ops.ToPixel,
    "image_to_tokens": ops.ImageToTokens,
    "mean_tokens": ops.MeanTokens,
    "take_token": ops.TakeToken,
    "prepend_tokens": ops.PrependTokens,
    "add_positions": ops.AddPositions,
    "attention": ops.Attention,
    "window_attention": ops.WindowAttention,
    "merge_tokens": ops.MergeTokens,
    **{name: type(activation) for name, activation in ops.ACTIVATIONS.items()},
}
"""Class of each operator by its name in files."""


def template(op: str, values: Mapping[str, Any]) -> Template:
    """The description of an operator.

    Args:
        op: name of the operator in files.
        values: values of the fields of the operator; fields with defaults may be missing.

    Raises:
        ValueError: there is no such operator or field, or a value has a wrong type.
    """
    if op not in OPERATORS:
        raise ValueError(f"op must be one of {sorted(OPERATORS)}, got {op!r}")
    kind = OPERATORS[op]
    unknown = sorted(values.keys() - {field.name for field in fields(kind)})
    if unknown:
        raise ValueError(f"the operator {op} has no field {', '.join(unknown)}")
    try:
        described = _ADAPTERS[op].validate_python(dict(values))
    except ValidationError as error:
        raise ValueError(one_line(error, op)) from None
    return described if isinstance(described, Conv | GroupNorm) else Fixed(described)


_ADAPTERS: Mapping[str, TypeAdapter[Any]] = {name: TypeAdapter(kind) for name, kind in OPERATORS.items()}
