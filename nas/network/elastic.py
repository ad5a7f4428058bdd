"""Layers that hold the weights of the largest choice and compute any smaller one.

The choice arrives as a `LayerSpec` with the call. Weights are sliced as views: no copy, no state.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas.network.depthwise import depthwise_conv
from search_spaces import LayerSpec


class ElasticBatchNorm(nn.Module):
    """Batch norm over the first channels.

    While training it uses the moments of the batch and leaves the running statistics alone: shared between
    subnets they would describe none of them. A subnet gets its own by BN recalibration after `extract`.
    """

    running_mean: Tensor
    running_var: Tensor
    mean_over_processes: Callable[[Tensor], Tensor] | None = None
    """Differentiable; None: each process uses the moments of its own images (`nas.training.reductions`)."""

    def __init__(self, channels: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise `x` of shape (n, c, h, w), c up to the number of channels."""
        c = x.shape[1]
        weight, bias = self.weight[:c], self.bias[:c]
        if not self.training:
            mean, var = self.running_mean[:c], self.running_var[:c]
            return F.batch_norm(x, mean, var, weight, bias, eps=self.eps)
        if self.mean_over_processes is None:
            return F.batch_norm(x, None, None, weight, bias, training=True, eps=self.eps)
        n = self.mean_over_processes(
            x.new_tensor(len(x), dtype=torch.float32)
        )  # shares may differ by an image
        weight_of_share = len(x) / n
        mean = self.mean_over_processes(weight_of_share * x.float().mean((0, 2, 3)))
        centred = x.float() - _per_channel(mean)
        var = self.mean_over_processes(weight_of_share * centred.square().mean((0, 2, 3)))
        scale = weight * (var + self.eps).rsqrt()
        return (centred * _per_channel(scale) + _per_channel(bias)).to(x.dtype)


class ElasticLayer(nn.Module):
    """A convolution or linear layer with its batch norm, as wide as the widest choice of its slot.

    Args:
        widest: a layer as wide as the widest choice, with the largest kernel.
        learned_kernels: kernel sizes of which each is a learned linear map of the next larger one's centre,
            shared by all channels (OFA, Cai et al. 2020, §3.3); none: a smaller kernel is the centre of the
            largest. The maps begin as the identity.
    """

    def __init__(self, widest: LayerSpec, learned_kernels: Sequence[int] = ()) -> None:
        super().__init__()
        c_in = widest.c_in // widest.groups
        shape = (widest.c_out, c_in) + (widest.kernel, widest.kernel) * (widest.op == "conv")
        self.weight = nn.Parameter(torch.empty(shape))
        self.bias = nn.Parameter(torch.zeros(widest.c_out)) if widest.bias else None
        larger_first = sorted(learned_kernels, reverse=True)
        self.transforms = nn.ParameterDict(
            [(f"{a}to{b}", nn.Parameter(torch.eye(b * b))) for a, b in pairwise(larger_first)]
        )
        self.norm = ElasticBatchNorm(widest.c_out, widest.norm_eps) if widest.norm_eps is not None else None

    def reset(self, generator: torch.Generator) -> None:
        """Draw new weights: He et al. 2015 (fan out) for convolutions, a small normal for linear layers."""
        with torch.no_grad():
            if self.weight.ndim == 4:
                fan_out = self.weight.shape[0] * self.weight[0, 0].numel()
                if self.weight.shape[1] == 1:  # depthwise: each output channel reads one input channel
                    fan_out = self.weight[0, 0].numel()
                self.weight.normal_(0, math.sqrt(2 / fan_out), generator=generator)
            else:
                self.weight.normal_(0, 0.01, generator=generator)

    def sliced(self, layer: LayerSpec) -> tuple[Tensor, Tensor | None]:
        """Weight and bias of `layer`: the first channels, the active kernel; views unless that is learned."""
        weight = self.weight[: layer.c_out, : layer.c_in // layer.groups]
        if layer.op == "conv":
            weight = self._kernel(weight, layer.kernel)
        return weight, None if self.bias is None else self.bias[: layer.c_out]

    def _kernel(self, weight: Tensor, kernel: int) -> Tensor:
        """The kernel of this size, through the learned maps from the largest one down to it."""
        for matrix in self.transforms.values():
            size = math.isqrt(len(matrix))
            if size >= kernel:
                weight = F.linear(_centre(weight, size).flatten(2), matrix).unflatten(2, (size, size))
        return _centre(weight, kernel)

    def forward(self, x: Tensor, layer: LayerSpec) -> Tensor:
        """Compute `layer` without its activation.

        Args:
            x: (n, layer.c_in, size_in, size_in).
            layer: the active choice.

        Returns:
            (n, layer.c_out, size_out, size_out); linear: (n, layer.c_out).
        """
        weight, bias = self.sliced(layer)
        if layer.op == "linear":
            return F.linear(x.flatten(1), weight, bias)
        if layer.groups == layer.c_in == layer.c_out and bias is None:
            out = depthwise_conv(x, weight, layer.stride)
        else:
            out = F.conv2d(x, weight, bias, layer.stride, layer.kernel // 2, groups=layer.groups)
        return out if self.norm is None else self.norm(out)


def _per_channel(values: Tensor) -> Tensor:
    """(c,) as a tensor that meets maps of shape (n, c, h, w)."""
    return values[:, None, None]


def _centre(weight: Tensor, size: int) -> Tensor:
    """A view of the middle size × size weights of each filter."""
    margin = (weight.shape[2] - size) // 2
    return weight.narrow(2, margin, size).narrow(3, margin, size)
