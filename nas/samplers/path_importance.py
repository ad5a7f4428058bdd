"""Sampling of paths by the norm of their gradients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nas.samplers.base import Step
from search_spaces import Arch, Space

NEW = 0.5
"""Weight of a new gradient norm in the running mean."""


class PathImportance:
    """One subnet; options whose weights have large gradients are drawn more often (PA&DA, Lu et al. 2023).

    The probabilities of options are a mixture of their normalized gradient norms, with the weight `progress`,
    and the uniform distribution. The options of an elastic layer share weights. Therefore the gradient norm
    of an option is the norm for the layers that it affects, in the steps in which the option was drawn. The
    recipe key `data.order: importance` does the same for images.

    Args:
        space: the space of the supernet.
    """

    def __init__(self, space: Space) -> None:
        self.norms = [np.zeros(n) for n in space.n_options]
        """Running mean of the gradient norm of each option of each gene; 0 before its first observation."""

    def shares(self, gene: int, progress: float) -> NDArray[np.float64]:
        """Probability of each option of a gene."""
        norms = self.norms[gene]
        uniform = np.full(len(norms), 1 / len(norms))
        if norms.sum() == 0:
            return uniform
        shares: NDArray[np.float64] = progress * norms / norms.sum() + (1 - progress) * uniform
        return shares

    def subnets(self, step: Step) -> list[Arch]:
        """See `Sampler`."""
        genes = range(len(self.norms))
        row = [step.rng.choice(len(self.norms[g]), p=self.shares(g, step.progress)) for g in genes]
        return step.decode(np.array([row]))

    def observe(self, step: Step, subnets: Sequence[Arch], losses: Sequence[float]) -> None:
        """Update the gradient norms of the options of the step's subnet."""
        squares = _squared_norms(step)
        values = subnets[0]
        for g, gene in enumerate(step.space.genes):
            if gene.name not in values:  # the block is beyond the depth of the stage
                continue
            slots = [slot.name for slot in step.space.slots if gene.name in (*slot.choices, slot.depth)]
            norm = float(np.sqrt(sum(squares.get(slot, 0.0) for slot in slots)))
            option = gene.options.index(values[gene.name])
            before = self.norms[g][option]
            self.norms[g][option] = norm if before == 0 else NEW * norm + (1 - NEW) * before

    def state_dict(self) -> dict[str, Any]:
        """See `Sampler`."""
        return {"norms": [norms.tolist() for norms in self.norms]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `Sampler`."""
        self.norms = [np.array(norms) for norms in state["norms"]]


def _squared_norms(step: Step) -> Mapping[str, float]:
    """Squared gradient norm of each slot's weights, by the slot's name."""
    named = [(name, p.grad) for name, p in step.supernet.named_parameters() if p.grad is not None]
    norms = torch.stack(torch._foreach_norm([grad for _, grad in named])).square().tolist()
    squares = dict.fromkeys((slot.name for slot in step.space.slots), 0.0)
    for (name, _), square in zip(named, norms, strict=True):
        slot = next(slot for slot in squares if name.startswith(f"{slot}."))
        squares[slot] += square
    return squares
