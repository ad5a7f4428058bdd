"""Depthwise convolution whose weight gradient is fast on CPUs.

oneDNN computes the weight gradient of depthwise kernels with a width of up to 3 fast; for wider kernels it is
5 to 20 times slower. The gradient of a k × k kernel is therefore assembled from gradients of k × 3 kernels,
each computed with an input that is shifted horizontally.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

FAST_WIDTH = 3
"""Largest kernel width for which oneDNN computes the weight gradient fast."""


def depthwise_conv(x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """Depthwise convolution with "same" padding, without bias.

    Args:
        x: (n, c, size, size).
        weight: (c, 1, k, k), k odd.
        stride: the same for rows and columns.

    Returns:
        shape (n, c, ceil(size / stride), ceil(size / stride)).
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
        grad_x = grad_weight = None
        if ctx.needs_input_grad[0]:
            grad_x = _backward(grad, x, weight, ctx.stride, weight.shape[-1] // 2, (True, False))[0]
        if ctx.needs_input_grad[1]:
            grad_weight = _weight_gradient(grad, x, weight, ctx.stride)
        return grad_x, grad_weight, None


def _weight_gradient(grad: Tensor, x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """Gradient of the weight, shape (c, 1, k, k), computed three columns at a time."""
    n, c, height, width = x.shape
    kernel = weight.shape[-1]
    margin = kernel // 2
    left = -(-margin // stride) * stride  # a multiple of the stride, so that the margin of `grad` is whole
    rows, columns = height + 2 * margin, left + width + margin

    # A view that starts some columns later is `x` shifted horizontally. Values that wrap around from the next
    # row are multiplied by the zero margin of `grad`. The slack keeps the first and last view in the buffer.
    slack, size = margin * c, n * rows * columns * c
    flat = x.new_zeros(slack + size + slack)
    padded = flat[slack : slack + size].view(n, rows, columns, c)
    padded[:, margin : margin + height, left : left + width] = x.permute(0, 2, 3, 1)

    padded_grad = grad.new_zeros(n, grad.shape[2], (columns - 1) // stride + 1, c)
    padded_grad[:, :, left // stride : left // stride + grad.shape[3]] = grad.permute(0, 2, 3, 1)
    padded_grad = padded_grad.permute(0, 3, 1, 2)

    out = torch.empty_like(weight)
    three_columns = weight[..., :FAST_WIDTH]
    for shift in range(1 - margin, margin, 2):
        begin = slack + shift * c
        shifted = flat[begin : begin + size].view(n, rows, columns, c).permute(0, 3, 1, 2)
        part = _backward(padded_grad, shifted, three_columns, stride, (0, 1), (False, True))[1]
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
    output_mask: tuple[bool, bool],
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of input and weight; None where `output_mask` is False."""
    pads = [padding, padding] if isinstance(padding, int) else list(padding)
    grad_x, grad_weight, _ = torch.ops.aten.convolution_backward(
        grad, x, weight, None, [stride] * 2, pads, [1, 1], False, [0, 0], x.shape[1], [*output_mask, False]
    )
    return grad_x, grad_weight
