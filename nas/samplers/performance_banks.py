"""Performance-aware sampling: banks of the best subnets of each interval of MACs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import softmax

from nas.samplers.base import Step
from nas.samplers.complexity_banks import BANKS, ComplexityBanks
from search_spaces import Arch, Genomes
from search_spaces.choices import Kind
from search_spaces.costs import macs_table

SIZE = 50
"""Maximum number of subnets in a bank."""
CANDIDATES = 5

Genome = tuple[int, ...]


class PerformanceBanks(ComplexityBanks):
    """Complexity banks that store their best subnets.

    Performance-aware sampling (ElasticViT, Tang et al. 2023): each subnet of a step is either drawn from the
    stored subnets, where subnets with a smaller loss are more likely, or is the widest and shallowest of 5
    new subnets. The probability of the first case grows from 0.2 to 0.95 during training. The stored loss of
    a subnet is its loss on the last batch that it was trained on (the publication updates all losses every
    quarter of an epoch).

    Args:
        n_random: as in `ComplexityBanks`.
    """

    def __init__(self, n_random: int) -> None:
        super().__init__(n_random)
        self.banks: list[dict[Genome, float]] = [{} for _ in range(BANKS)]

    def members(self, step: Step) -> Genomes:
        """See `ComplexityBanks`."""
        return np.array([self._member(step) for _ in range(self.n)])

    def _member(self, step: Step) -> Genome:
        stored = self.banks[self.bank]
        if stored and step.rng.random() < 0.2 + 0.15 * int(6 * step.progress):
            probabilities = softmax(-np.array(list(stored.values())))
            return list(stored)[step.rng.choice(len(stored), p=probabilities)]
        return self._widest(step, self.bins.draw(step, self.bank, CANDIDATES))

    def _widest(self, step: Step, genomes: Genomes) -> Genome:
        """The genome with the most MACs due to its widths, compared with those due to its depths."""
        macs = macs_table(step.space)
        narrow = macs(self._with_anchor_options(step, genomes, "width"))
        shallow = macs(self._with_anchor_options(step, genomes, "depth"))
        return tuple(genomes[(narrow - shallow).argmin()].tolist())

    def _with_anchor_options(self, step: Step, genomes: Genomes, kind: Kind) -> Genomes:
        """`genomes` with the widths or depths of the best subnet of the smallest bank."""
        best = min(self.banks[0], key=lambda genome: self.banks[0][genome], default=None)
        anchor = np.zeros(genomes.shape[1], dtype=np.int64) if best is None else np.array(best)
        columns = [i for i, gene in enumerate(step.space.genes) if gene.kind == kind]
        changed = genomes.copy()
        changed[:, columns] = anchor[columns]
        return changed

    def observe(self, step: Step, subnets: Sequence[Arch], losses: Sequence[float]) -> None:
        """Store the best subnets of the bank, by their losses on the labels."""
        members = list(subnets[: self.n])
        stored = self.banks[self.bank]
        genomes = step.space.encode(members).tolist()
        losses_on_labels = step.evaluate_losses(members)
        stored.update({tuple(g): loss for g, loss in zip(genomes, losses_on_labels, strict=True)})
        self.banks[self.bank] = dict(sorted(stored.items(), key=lambda item: item[1])[:SIZE])

    def state_dict(self) -> dict[str, Any]:
        """See `Sampler`."""
        banks = [[[*genome, loss] for genome, loss in bank.items()] for bank in self.banks]
        return super().state_dict() | {"banks": banks}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `Sampler`."""
        super().load_state_dict(state)
        self.banks = [{tuple(genome): loss for *genome, loss in bank} for bank in state["banks"]]
