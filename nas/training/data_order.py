"""Order of the training images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from nas.training.reductions import mean_over_processes


class DataOrder(Protocol):
    """Chooses the images of each epoch; equal on all ranks."""

    known_ahead: bool
    """Whether the order of an epoch does not depend on the training, so that the loader may read ahead into
    the next epoch."""

    def epoch(self, index: int, rng: np.random.Generator, progress: float) -> NDArray[np.int64] | None:
        """The images of an epoch in order, as indices; None: all, shuffled.

        Args:
            index: number of the epoch. The order of an epoch is the same when training resumes in it.
            rng: random generator of the epoch.
            progress: completed share of the training, 0 to below 1.
        """

    def observe(self, indices: NDArray[np.int64], errors: Tensor) -> None:
        """Learn from the errors of the first subnet of a step.

        Args:
            indices: images of the batch of all processes, shape (n,).
            errors: errors of the images of this process, see `Task.errors`.
        """

    def state_dict(self) -> dict[str, Any]:
        """The learned state, as plain values and tensors for a checkpoint."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""


class ShuffledOrder:
    """Each image once an epoch."""

    known_ahead = True

    def epoch(self, index: int, rng: np.random.Generator, progress: float) -> None:
        """See `DataOrder`."""

    def observe(self, indices: NDArray[np.int64], errors: Tensor) -> None:
        """See `DataOrder`."""

    def state_dict(self) -> dict[str, Any]:
        """See `DataOrder`."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `DataOrder`."""


class ImportanceSampling:
    """Images drawn with replacement, with a probability that grows with their error (PA&DA, Lu et al. 2023).

    The error of an image is the norm of the gradient of the loss with respect to the outputs, which bounds
    the gradient in the last layer. The probabilities are a mixture of the normalized last errors, with the
    weight `progress`, and the uniform distribution. As in the published code, losses are not divided by the
    probabilities.

    Args:
        n: number of training images.
    """

    known_ahead = False

    def __init__(self, n: int) -> None:
        self.norms = torch.ones(n)
        """Last error of each image."""
        self.index = -1
        self.norms_of_epoch = self.norms
        """The norms at the start of epoch `index`, which determine its order."""

    def epoch(self, index: int, rng: np.random.Generator, progress: float) -> NDArray[np.int64]:
        """See `DataOrder`."""
        if index != self.index:
            self.index, self.norms_of_epoch = index, self.norms.clone()
        norms = self.norms_of_epoch.double().numpy()
        n = len(norms)
        share = progress * norms / norms.sum() + (1 - progress) / n
        return rng.choice(n, n, p=share / share.sum())

    def observe(self, indices: NDArray[np.int64], errors: Tensor) -> None:
        """See `DataOrder`."""
        rank, world_size = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        norms = torch.zeros(len(indices), device=errors.device)
        norms[rank::world_size] = errors
        self.norms[indices] = (mean_over_processes(norms) * world_size).cpu()

    def state_dict(self) -> dict[str, Any]:
        """See `DataOrder`."""
        return {"norms": self.norms, "index": self.index, "norms_of_epoch": self.norms_of_epoch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `DataOrder`."""
        self.norms, self.index = state["norms"].clone(), state["index"]
        self.norms_of_epoch = state["norms_of_epoch"].clone()


DATA_ORDERS: Mapping[str, Callable[[int], DataOrder]] = {
    "shuffled": lambda n: ShuffledOrder(),
    "importance": ImportanceSampling,
}
"""Data orders by name; the factories are called with the number of training images."""
