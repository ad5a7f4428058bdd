"""Adaptive sampling: sizes whose loss still changes are trained more often."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import softmax

from nas.samplers.base import Step
from nas.samplers.macs_bins import MacsBins
from search_spaces import Arch

BINS = 8
DECAY = 0.9
"""Decay of the moving averages per observation."""
TEMPERATURE = 1.0
UNIFORM = 0.2
"""Share of uniform draws, so that all sizes are trained."""


class ComplexityAdaptive:
    """The largest subnet, the smallest one, and `n_random` subnets of sizes whose loss still changes.

    The idea is from ShiftNAS (Zhang et al. 2023), which adapts the probability of each size to the gain in
    its performance. Its update rule is not public. Here, the probabilities are the softmax of the changes of
    the average loss of each size, which are averaged over draws and divided by their mean over all sizes.

    Args:
        n_random: number of subnets in addition to the largest and the smallest one.
    """

    def __init__(self, n_random: int) -> None:
        self.n_random = n_random
        self.bins = MacsBins(BINS)
        self.loss = np.full(BINS, np.nan)
        """Average loss of each bin; NaN before the first observation."""
        self.change = np.zeros(BINS)
        """Average absolute change of `loss` per draw of the bin."""

    def shares(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Probability of each bin, shape (BINS,)."""
        scale = self.change.mean()
        learned = softmax(self.change / scale / TEMPERATURE) if scale > 0 else np.full(BINS, 1 / BINS)
        return UNIFORM / BINS + (1 - UNIFORM) * learned

    def subnets(self, step: Step) -> list[Arch]:
        """See `Sampler`."""
        bins = step.rng.choice(BINS, self.n_random, p=self.shares())
        genomes = [self.bins.draw(step, int(index), 1) for index in bins]
        return [step.largest, step.smallest, *(arch for g in genomes for arch in step.decode(g))]

    def observe(self, step: Step, subnets: Sequence[Arch], losses: Sequence[float]) -> None:
        """Update the averages with the losses of the subnets, without the largest and the smallest one."""
        bins = self.bins.of(step, step.space.encode(subnets))
        for index, loss in zip(bins[2:], losses[2:], strict=True):
            before = loss if np.isnan(self.loss[index]) else self.loss[index]
            self.loss[index] = DECAY * before + (1 - DECAY) * loss
            self.change[index] += (1 - DECAY) * (abs(self.loss[index] - before) - self.change[index])

    def state_dict(self) -> dict[str, Any]:
        """See `Sampler`."""
        return {"loss": self.loss.tolist(), "change": self.change.tolist()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `Sampler`."""
        self.loss, self.change = np.array(state["loss"]), np.array(state["change"])
