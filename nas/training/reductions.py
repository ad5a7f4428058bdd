"""Means over all processes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from nas.torch_backend.elastic import ElasticBatchNorm


def average_gradients(parameters: Iterable[nn.Parameter], values: Tensor) -> Tensor:
    """Average the gradients over all processes in place, with one all-reduce.

    Args:
        parameters: parameters of the network. All processes train the same subnets, so the same parameters
            have gradients in all processes.
        values: float32 (n,), more numbers to average with the same all-reduce.

    Returns:
        the mean of `values` over all processes.

    Raises:
        ConnectionError: another process has ended.
    """
    if not dist.is_initialized():
        return values
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = mean_over_processes(torch.cat([*(gradient.flatten() for gradient in gradients), values]))
    *means, values = flat.split([*(gradient.numel() for gradient in gradients), len(values)])
    for gradient, mean in zip(gradients, means, strict=True):
        gradient.copy_(mean.view_as(gradient))
    return values


def mean_over_processes(x: Tensor) -> Tensor:
    """The mean over all processes, in place.

    Raises:
        ConnectionError: another process has ended.
    """
    if not dist.is_initialized():
        return x
    with needs_all_processes():
        dist.all_reduce(x)
    return x.div_(dist.get_world_size())


def synchronize_batch_norms(network: nn.Module) -> None:
    """Make every elastic batch norm use the moments of the batch of all processes."""
    for module in network.modules():
        if isinstance(module, ElasticBatchNorm):
            module.mean_over_processes = _DifferentiableMean.apply


@contextmanager
def needs_all_processes() -> Iterator[None]:
    """Context that converts errors of torch's collectives to `ConnectionError`.

    Raises:
        ConnectionError: another process has ended.
    """
    try:
        yield
    except RuntimeError as error:  # gloo and NCCL do not raise a more specific error
        reason = str(error).split("\n")[0]
        raise ConnectionError(f"another process of the run has ended ({reason:.100})") from None


class _DifferentiableMean(torch.autograd.Function):
    """Mean over all processes, with its gradient.

    torch's own layer for synchronized batch norm, SyncBatchNorm, does not support CPU tensors.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return mean_over_processes(x.clone())

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return mean_over_processes(grad.clone())
