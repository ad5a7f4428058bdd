"""The operators as torch functions, used by the supernet and by static subnets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from nas.torch_backend.attention import attention, window_attention
from nas.torch_backend.depthwise import depthwise_conv
from search_spaces import Block, Node
from search_spaces import operators as ops
from search_spaces.tensors import TensorSpec, image

Weights = Mapping[str, Tensor]
"""Parameters and statistics of an operator by name, as `Operator.parameters` names them."""
Function = Callable[[Any, Sequence[Tensor], Weights], Tensor]
"""Function of an operator: (operator, inputs, weights) -> output. The first dimension is the batch."""
Compute = Callable[[Node, Sequence[Tensor]], Tensor]
"""Function that computes a node that has weights: (node, inputs) -> output."""


FEW_CHANNELS = 16
"""With fewer input channels, oneDNN 3.12 writes outside of its buffers in the backward pass of a strided
1 x 1 convolution of channels-last images (oneDNN issue 6035)."""


def _conv(op: ops.Conv2d, inputs: Sequence[Tensor], weights: Weights) -> Tensor:
    x, weight, bias, stride = inputs[0], weights["weight"], weights.get("bias"), op.stride
    top, left, bottom, right = op.padding
    if (top, left) != (bottom, right):
        x, top, left = F.pad(x, (left, right, top, bottom)), 0, 0
    elif _is_plain_depthwise(op, x):
        return depthwise_conv(x, weight, stride[0])
    trained = weight.requires_grad and torch.is_grad_enabled()
    if trained and op.kernel == (1, 1) and (top, left) == (0, 0) and x.shape[1] < FEW_CHANNELS:
        x, stride = x[:, :, :: stride[0], :: stride[1]], (1, 1)
    return F.conv2d(x, weight, bias, stride, (top, left), op.dilation, op.groups)


def _is_plain_depthwise(op: ops.Conv2d, x: Tensor) -> bool:
    """Whether `depthwise_conv` can compute the operator."""
    return op.groups == x.shape[1] == op.channels and op == ops.Conv2d.same(
        op.channels, op.kernel[0], op.stride[0], groups=op.groups
    )


def _batch_norm(op: ops.BatchNorm, inputs: Sequence[Tensor], weights: Weights) -> Tensor:
    mean, var = weights["running_mean"], weights["running_var"]
    return F.batch_norm(inputs[0], mean, var, weights["weight"], weights["bias"], eps=op.eps)


def _layer_norm(op: ops.LayerNorm, inputs: Sequence[Tensor], weights: Weights) -> Tensor:
    x = inputs[0]
    shape = x.shape[-2 if op.over_tokens else -1 :]
    return F.layer_norm(x, shape, weights["weight"].expand(shape), weights["bias"].expand(shape), op.eps)


def _group_norm(op: ops.GroupNorm, inputs: Sequence[Tensor], weights: Weights) -> Tensor:
    return F.group_norm(inputs[0], op.groups, weights["weight"], weights["bias"], op.eps)


ARITHMETIC: Mapping[str, Callable[[Tensor, Any], Tensor]] = {
    "add": lambda x, c: x + c,
    "subtract": lambda x, c: x - c,
    "subtract_from": lambda x, c: c - x,
    "multiply": lambda x, c: x * c,
    "divide": lambda x, c: x / c,
}
"""The functions of `search_spaces.operators.arithmetic`."""


def _channel_arithmetic(op: ops.ChannelArithmetic, inputs: Sequence[Tensor], weights: Weights) -> Tensor:
    x, values = inputs[0], weights["value"]
    return ARITHMETIC[op.function](x, values[:, None, None] if op.of_image else values)


def _prepend(op: ops.PrependTokens, inputs: Sequence[Tensor], weights: Weights) -> Tensor:
    x = inputs[0]
    return torch.cat([weights["weight"].expand(len(x), -1, -1).to(x.dtype), x], dim=1)


def _add_positions(op: ops.AddPositions, inputs: Sequence[Tensor], weights: Weights) -> Tensor:
    positions = weights["grid"].flatten(0, 1)
    if op.prefix:
        positions = torch.cat([weights["prefix"], positions])
    return inputs[0] + positions


def _avg_pool(op: ops.AvgPool2d, inputs: Sequence[Tensor], weights: Weights) -> Tensor:
    x = inputs[0]
    return F.avg_pool2d(x, op.kernel, op.stride, op.padding, op.extends(_spec(x)))


def _max_pool(op: ops.MaxPool2d, inputs: Sequence[Tensor], weights: Weights) -> Tensor:
    x = inputs[0]
    return F.max_pool2d(x, op.kernel, op.stride, op.padding, ceil_mode=op.extends(_spec(x)))


def _spec(x: Tensor) -> TensorSpec:
    return image(x.shape[1], x.shape[2], x.shape[3])


def _channel_shuffle(op: ops.ChannelShuffle, inputs: Sequence[Tensor], weights: Weights) -> Tensor:
    dim = _channel_dim(inputs[0])
    matrix: Tensor = inputs[0].unflatten(dim, (op.groups, -1))
    return matrix.transpose(dim, dim + 1).flatten(dim, dim + 1)


def _scale(op: ops.Scale, inputs: Sequence[Tensor], weights: Weights) -> Tensor:
    factors = weights["weight"].flatten()
    factors = factors if op.multiplier == 1 else factors * op.multiplier
    return inputs[0] * (factors[:, None, None] if op.of_image else factors)


def _slice(op: ops.Slice, inputs: Sequence[Tensor], weights: Weights) -> Tensor:
    x, dim, length = inputs[0], _channel_dim(inputs[0]), op.end - op.start
    if op.groups == 1:
        return x.narrow(dim, op.start, length)
    groups: Tensor = x.unflatten(dim, (op.groups, -1))
    return groups.narrow(dim + 1, op.start, length).flatten(dim, dim + 1)


def _merge_tokens(op: ops.MergeTokens, inputs: Sequence[Tensor], weights: Weights) -> Tensor:
    n, rows, columns, channels = inputs[0].shape
    squares = inputs[0].reshape(n, rows // 2, 2, columns // 2, 2, channels)
    return squares.permute(0, 1, 3, 4, 2, 5).flatten(3)


def _resize(op: ops.Resize, inputs: Sequence[Tensor], weights: Weights) -> Tensor:
    x = inputs[0]
    return x if x.shape[2:] == op.size else F.interpolate(x, op.size, mode="bicubic", align_corners=False)


def _unary(function: Callable[[Tensor], Tensor]) -> Function:
    return lambda op, inputs, weights: function(inputs[0])


FUNCTIONS: dict[type[ops.Operator], Function] = {
    ops.Conv2d: _conv,
    ops.Linear: lambda op, inputs, weights: F.linear(inputs[0], weights["weight"], weights.get("bias")),
    ops.BatchNorm: _batch_norm,
    ops.LayerNorm: _layer_norm,
    ops.GroupNorm: _group_norm,
    ops.Scale: _scale,
    ops.Relu: _unary(F.relu),
    ops.Relu6: _unary(F.relu6),
    ops.HardSwish: _unary(F.hardswish),
    ops.Swish: _unary(F.silu),
    ops.Sigmoid: _unary(F.sigmoid),
    ops.HardSigmoid: _unary(F.hardsigmoid),
    ops.Gelu: _unary(F.gelu),
    ops.GeluTanh: _unary(lambda x: F.gelu(x, approximate="tanh")),
    ops.Mish: _unary(F.mish),
    ops.LeakyRelu: lambda op, inputs, weights: F.leaky_relu(inputs[0], op.slope),
    ops.PRelu: lambda op, inputs, weights: F.prelu(inputs[0], weights["weight"]),
    ops.Elu: _unary(F.elu),
    ops.Tanh: _unary(torch.tanh),
    ops.Arithmetic: lambda op, inputs, weights: ARITHMETIC[op.function](inputs[0], op.value),
    ops.ChannelArithmetic: _channel_arithmetic,
    ops.AvgPool2d: _avg_pool,
    ops.MaxPool2d: _max_pool,
    ops.GlobalAvgPool: _unary(lambda x: x.mean((2, 3), keepdim=True)),
    ops.GlobalMaxPool: _unary(lambda x: x.amax((2, 3), keepdim=True)),
    ops.AdaptiveAvgPool2d: lambda op, inputs, weights: F.adaptive_avg_pool2d(inputs[0], op.size),
    ops.Resize: _resize,
    ops.Add: lambda op, inputs, weights: inputs[0] + inputs[1],
    ops.Subtract: lambda op, inputs, weights: inputs[0] - inputs[1],
    ops.Multiply: lambda op, inputs, weights: inputs[0] * inputs[1],
    ops.Concat: lambda op, inputs, weights: torch.cat([*inputs], dim=_channel_dim(inputs[0])),
    ops.Slice: _slice,
    ops.ChannelShuffle: _channel_shuffle,
    ops.ChannelsLast: _unary(lambda x: x.permute(0, 2, 3, 1)),
    ops.ChannelsFirst: _unary(lambda x: x.permute(0, 3, 1, 2)),
    ops.Flatten: _unary(lambda x: x.flatten(1)),
    ops.ToPixel: _unary(lambda x: x[:, :, None, None]),
    ops.Convert: _unary(lambda x: x),
    ops.ImageToTokens: _unary(lambda x: x.flatten(2).transpose(1, 2)),
    ops.TokensToImage: lambda op, inputs, weights: inputs[0].transpose(1, 2).unflatten(2, op.size),
    ops.PrependTokens: _prepend,
    ops.AddPositions: _add_positions,
    ops.Attention: attention,
    ops.WindowAttention: window_attention,
    ops.MergeTokens: _merge_tokens,
    ops.TakeToken: lambda op, inputs, weights: inputs[0][:, op.index],
    ops.MeanTokens: lambda op, inputs, weights: inputs[0][:, op.skip :].mean(1),
}
"""The function of every operator."""

AS_PUBLISHED: Mapping[type[ops.Operator], Function] = FUNCTIONS | {
    ops.GlobalAvgPool: _unary(lambda x: x.mean(3, keepdim=True).mean(2, keepdim=True)),
}
"""The functions with the order of summation of the code of the published supernets. They are slower, but with
some weights another order changes logits by a percent."""


def _channel_dim(x: Tensor) -> int:
    """Dimension of the channels: the second one of images and vectors, the last one of tokens."""
    return 2 if x.ndim == 3 else 1


def run_block(
    block: Block,
    inputs: Sequence[Tensor],
    compute: Compute,
    functions: Mapping[type[ops.Operator], Function] = FUNCTIONS,
) -> list[Tensor]:
    """Compute one block.

    Args:
        block: the block.
        inputs: inputs of the block, shapes (n, *spec.shape).
        compute: computes the nodes with weights.
        functions: compute all other nodes.

    Returns:
        the outputs of the block, shapes (n, *spec.shape).
    """
    results: list[Tensor] = []

    def tensor(index: int) -> Tensor:
        return inputs[-1 - index] if index < 0 else results[index]

    for node in block.nodes:
        sources = [tensor(index) for index in node.inputs]
        if node.parameters:
            results.append(compute(node, sources))
        else:
            results.append(functions[type(node.op)](node.op, sources, {}))
    return [tensor(index) for index in block.outputs]


def run_network(
    blocks: Iterable[Block],
    x: Tensor,
    compute: Compute,
    *,
    fast: bool,
    noise: Callable[[Compute, Block], Compute] | None = None,
) -> Tensor:
    """Compute the blocks of a network in order.

    Args:
        blocks: blocks of a network with one output.
        x: images, shape (n, channels, height, width).
        compute: computes the nodes with weights.
        fast: use the fastest memory layout and order of summation. Otherwise use the layout and order of the
            code that trained the published supernets, so that logits differ only in the last bits.
        noise: wraps `compute` of each block to add noise for training.

    Returns:
        the output of the network, shape (n, *spec.shape).
    """
    functions = FUNCTIONS if fast else AS_PUBLISHED
    tensors = [x]
    for block in blocks:
        tensors = run_block(block, tensors, noise(compute, block) if noise else compute, functions)
        if fast:
            tensors = [faster_layout(tensor) for tensor in tensors]
    return tensors[0]


def faster_layout(x: Tensor) -> Tensor:
    """Convert images to the memory layout in which networks of MBConv blocks are faster on their device.

    Images with one channel are returned unchanged, because torch does not distinguish the two layouts for
    them.
    """
    if x.ndim == 4 and x.shape[1] > 1:
        return x.contiguous(memory_format=faster_format(x.device))
    return x


def faster_format(device: torch.device) -> torch.memory_format:
    """Channels-last on CPUs, where it is 1.4 to 2.5 times as fast; channels-first on GPUs.

    On an H100, training with bfloat16 is 5.6 times as fast channels-first, because cuDNN's depthwise
    convolutions are slow channels-last.
    """
    return torch.contiguous_format if device.type == "cuda" else torch.channels_last
