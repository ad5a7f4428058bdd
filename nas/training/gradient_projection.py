"""Projection of conflicting gradients of the subnets of a step (NASViT, Gong et al. 2022)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

LARGEST_FACTOR = 2.0
"""Largest multiple of the gradient of the other subnets that is added."""
_EPSILON = 1e-6


class SeparateGradients:
    """Gradients of one step: the gradient of the first subnet, and the sum over the other subnets.

    Args:
        parameters: parameters of the supernet; their `grad` holds the gradients of the other subnets.
    """

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        self._parameters = list(parameters)
        self._first: list[Tensor | None] = [None] * len(self._parameters)

    @contextmanager
    def of_first(self) -> Iterator[None]:
        """Context in which `grad` of the parameters holds the gradients of the first subnet."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def combine(self) -> Tensor:
        """Set the gradients of the parameters to the projected sum of both; returns their norm."""
        for parameter, first in zip(self._parameters, self._first, strict=True):
            if first is not None:
                others = parameter.grad
                parameter.grad = first if others is None else projected_sum(first, others)
        gradients = [parameter.grad for parameter in self._parameters if parameter.grad is not None]
        norm: Tensor = torch.linalg.vector_norm(torch.stack([*map(torch.linalg.vector_norm, gradients)]))
        return norm

    def _exchange(self) -> None:
        for i, parameter in enumerate(self._parameters):
            parameter.grad, self._first[i] = self._first[i], parameter.grad


def projected_sum(first: Tensor, others: Tensor) -> Tensor:
    """Sum of two gradients of a parameter; if they conflict, `first` loses its part along `others`.

    Without a limit on the factor, the projection of `first` is orthogonal to `others`.
    """
    conflict = -(first * others).sum() / (others.square().sum() + _EPSILON)
    return first + others * (1 + conflict.clamp(0, LARGEST_FACTOR))
