"""Depthwise convolution whose weight gradient is fast on CPUs.

oneDNN has fast code for the weight gradient of depthwise kernels up to 3 wide; from 5 on it falls back to
code that is 5 to 20 times slower. A k × k gradient is therefore assembled from k × 3 ones, each against the
input shifted along the rows.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

FAST_WIDTH = 3
"""Widest kernel whose weight gradient oneDNN computes fast."""


def depthwise_conv(x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """Depthwise convolution with "same" padding, without bias.

    Args:
        x: (n, c, size, size).
        weight: (c, 1, k, k), k odd.
        stride: of rows and columns.

    Returns:
        (n, c, ceil(size / stride), ceil(size / stride)).
    """
    slow_gradient = (
        weight.requires_grad
        and torch.is_grad_enabled()
        and weight.shape[-1] > FAST_WIDTH
        and x.device.type == "cpu"
        and x.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
    )
    if slow_gradient:
        out: Tensor = _DepthwiseConv.apply(x, weight, stride)
        return out
    return _conv(x, weight, stride)


def _conv(x: Tensor, weight: Tensor, stride: int) -> Tensor:
    return F.conv2d(x, weight, None, stride, weight.shape[-1] // 2, groups=x.shape[1])


class _DepthwiseConv(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        return _conv(x, weight, stride)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        for_x = for_weight = None
        if ctx.needs_input_grad[0]:
            for_x = _backward(grad, x, weight, ctx.stride, weight.shape[-1] // 2, (True, False))[0]
        if ctx.needs_input_grad[1]:
            for_weight = _weight_gradient(grad, x, weight, ctx.stride)
        return for_x, for_weight, None


def _weight_gradient(grad: Tensor, x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """Gradient of the weight (c, 1, k, k), three columns at a time."""
    n, c, height, width = x.shape
    kernel = weight.shape[-1]
    margin = kernel // 2
    left = -(-margin // stride) * stride  # of whole strides, so that the margin of `grad` is whole too
    rows, columns = height + 2 * margin, left + width + margin

    # A view that begins some columns later is `x` shifted along its rows: what moves in from the neighbouring
    # row meets the zero margin of `grad`. The slack at both ends keeps the first and last views inside.
    slack, size = margin * c, n * rows * columns * c
    flat = x.new_zeros(slack + size + slack)
    framed = flat[slack : slack + size].view(n, rows, columns, c)
    framed[:, margin : margin + height, left : left + width] = x.permute(0, 2, 3, 1)

    grad_framed = grad.new_zeros(n, grad.shape[2], (columns - 1) // stride + 1, c)
    grad_framed[:, :, left // stride : left // stride + grad.shape[3]] = grad.permute(0, 2, 3, 1)
    grad_framed = grad_framed.permute(0, 3, 1, 2)

    out = torch.empty_like(weight)
    three_columns = weight[..., :FAST_WIDTH]
    for shift in range(1 - margin, margin, 2):
        begin = slack + shift * c
        shifted = flat[begin : begin + size].view(n, rows, columns, c).permute(0, 3, 1, 2)
        part = _backward(grad_framed, shifted, three_columns, stride, (0, 1), (False, True))[1]
        assert part is not None
        centre = margin + shift
        out[..., centre - 1 : centre + 2] = part
    return out


def _backward(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    stride: int,
    padding: int | tuple[int, int],
    wanted: tuple[bool, bool],
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of input and weight, those that are wanted."""
    pads = [padding, padding] if isinstance(padding, int) else list(padding)
    for_x, for_weight, _ = torch.ops.aten.convolution_backward(
        grad, x, weight, None, [stride] * 2, pads, [1, 1], False, [0, 0], x.shape[1], [*wanted, False]
    )
    return for_x, for_weight
