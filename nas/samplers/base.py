"""The interface of samplers, and the description of a training step that samplers get."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from nas.torch_backend.supernet import Supernet
from search_spaces import Arch, Genomes, Space

EvaluateLosses = Callable[[Sequence[Arch]], list[float]]
"""Losses of subnets on the labels of the step's batch, without training them: one forward pass each."""


@dataclass(frozen=True, eq=False)
class Step:
    """The description of a training step for samplers; equal on all ranks."""

    rng: np.random.Generator
    """The only source of randomness. Depends on seed and step, so that runs resume exactly."""
    resolutions: Sequence[int]
    """Resolutions of subnets that accept the step's images: one, unless the network itself resizes images."""
    progress: float
    """Completed share of the training, 0 to below 1."""
    supernet: Supernet
    """After the step, its parameters have the gradients of the step."""
    evaluate_losses: EvaluateLosses
    restart: Callable[[], None]
    """Resets the state of the optimizer and the average of the weights. Call it after changing weights
    directly, as channel sorting does."""

    @property
    def space(self) -> Space:
        """The space of the supernet."""
        return self.supernet.space

    @property
    def largest(self) -> Arch:
        """The largest subnet that accepts the step's images."""
        return self.decode(self.space.n_options[None] - 1)[0]

    @property
    def smallest(self) -> Arch:
        """The smallest subnet that accepts the step's images."""
        return self.decode(np.zeros((1, len(self.space.genes)), dtype=np.int64))[0]

    def sample(self, n: int) -> Genomes:
        """`n` genomes that accept the step's images, each gene drawn uniformly; shape (n, n_genes)."""
        return self.fit(self.space.sample(self.rng, n))

    def decode(self, genomes: Genomes) -> list[Arch]:
        """The archs of `genomes`, at the nearest resolutions that accept the step's images."""
        return self.space.decode(self.fit(genomes))

    def fit(self, genomes: Genomes) -> Genomes:
        """`genomes` with each resolution moved to the nearest one that accepts the step's images."""
        fitted = self.space.canonical(genomes)
        for column in self.space.columns(["resolution"]):
            offered = np.array(self.space.resolutions)
            usable = np.array([self.space.resolutions.index(r) for r in self.resolutions])
            distance = np.abs(offered[fitted[:, column, None]] - offered[usable])
            fitted[:, column] = usable[distance.argmin(axis=1)]
        return fitted


@runtime_checkable
class Sampler(Protocol):
    """Chooses the subnets of each training step.

    The targets of the subnets depend on `distillation` in the recipe: with `inplace`, the first subnet is
    trained on the labels and is the teacher of the others. All ranks get equal steps and must choose the same
    subnets.
    """

    def subnets(self, step: Step) -> Sequence[Arch]:
        """The subnets of a step; their number may change from step to step."""

    def observe(self, step: Step, subnets: Sequence[Arch], losses: Sequence[float]) -> None:
        """Learn from the losses of the step's subnets, in order, after the update of the weights."""

    def state_dict(self) -> dict[str, Any]:
        """The learned state, as plain values and tensors for a checkpoint."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""


class FixedRule:
    """Base of samplers without a learned state."""

    def observe(self, step: Step, subnets: Sequence[Arch], losses: Sequence[float]) -> None:
        """See `Sampler`."""

    def state_dict(self) -> dict[str, Any]:
        """See `Sampler`."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `Sampler`."""
