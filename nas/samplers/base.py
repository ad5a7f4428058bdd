"""What a sampler is, and what it is told of a training step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from nas.torch_backend.supernet import Supernet
from search_spaces import Arch, Genomes, Space

Probe = Callable[[Sequence[Arch]], list[float]]
"""Losses of subnets on the labels of the step's batch, without training them: one forward pass each."""


@dataclass(frozen=True, eq=False)
class Step:
    """A training step, as samplers see it; equal in all processes of a run."""

    rng: np.random.Generator
    """The only source of randomness: of the seed and the step, so that a stopped run goes on as it would."""
    resolutions: Sequence[int]
    """Resolutions of subnets that take the step's images: one, unless the network itself resizes them."""
    progress: float
    """Share of the training that is done, 0 to below 1."""
    supernet: Supernet
    """After the step its `grad` are those that the weights were changed by."""
    probe: Probe
    restart: Callable[[], None]
    """To be called after the weights were changed by hand, as by channel sorting: the state of the optimizer
    and the average of the weights, which no longer fit, begin anew."""

    @property
    def space(self) -> Space:
        """The space of the supernet."""
        return self.supernet.space

    @property
    def largest(self) -> Arch:
        """The largest subnet that takes the step's images."""
        return self.decode(self.space.n_options[None] - 1)[0]

    @property
    def smallest(self) -> Arch:
        """The smallest subnet that takes the step's images."""
        return self.decode(np.zeros((1, len(self.space.genes)), dtype=np.int64))[0]

    def sample(self, n: int) -> Genomes:
        """`n` genomes, each gene drawn uniformly, that take the step's images; shape (n, n_genes)."""
        return self.fit(self.space.sample(self.rng, n))

    def decode(self, genomes: Genomes) -> list[Arch]:
        """The archs of `genomes`, at the nearest resolutions that take the step's images."""
        return self.space.decode(self.fit(genomes))

    def fit(self, genomes: Genomes) -> Genomes:
        """`genomes` with each resolution moved to the nearest one that takes the step's images."""
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

    What they learn from is the recipe's `distillation`: with `inplace` the first learns from the labels and
    the others from it. All processes of a run ask with equal steps and must train the same subnets.
    """

    def subnets(self, step: Step) -> Sequence[Arch]:
        """The subnets of a step; their number may change from step to step."""

    def observe(self, step: Step, subnets: Sequence[Arch], losses: Sequence[float]) -> None:
        """Hear the losses of the step's subnets, in their order, after the weights were changed."""

    def state_dict(self) -> dict[str, Any]:
        """What was learned, as plain values and tensors for a checkpoint."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to what `state_dict` gave, where training resumes."""


class FixedRule:
    """Base of samplers that learn nothing."""

    def observe(self, step: Step, subnets: Sequence[Arch], losses: Sequence[float]) -> None:
        """See `Sampler`."""

    def state_dict(self) -> dict[str, Any]:
        """See `Sampler`."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `Sampler`."""
