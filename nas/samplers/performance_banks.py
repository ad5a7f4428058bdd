"""Banks of subnets that did well, for each interval of MACs."""

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
"""Subnets that a bank keeps at most."""
CANDIDATES = 5

Genome = tuple[int, ...]


class PerformanceBanks(ComplexityBanks):
    """Complexity banks that remember their best subnets.

    Performance-aware sampling (ElasticViT, Tang et al. 2023): a step's subnet is one that the bank keeps, a
    better one more often; or else a new one, of 5 the widest and shallowest. The chance of the first grows
    from 0.2 to 0.95 while training. A subnet is as good as its loss on the batch that it was trained on last
    (the publication refreshes all losses every quarter epoch).

    Args:
        n_random: as in `ComplexityBanks`.
    """

    def __init__(self, n_random: int) -> None:
        super().__init__(n_random)
        self.kept: list[dict[Genome, float]] = [{} for _ in range(BANKS)]

    def members(self, step: Step) -> Genomes:
        """See `ComplexityBanks`."""
        return np.array([self._member(step) for _ in range(self.n)])

    def _member(self, step: Step) -> Genome:
        kept = self.kept[self.bank]
        if kept and step.rng.random() < 0.2 + 0.15 * int(6 * step.progress):
            share = softmax(-np.array(list(kept.values())))
            return list(kept)[step.rng.choice(len(kept), p=share)]
        return self._widest(step, self.bins.draw(step, self.bank, CANDIDATES))

    def _widest(self, step: Step, genomes: Genomes) -> Genome:
        """Of genomes of one size, the one that has its size from width more than from depth."""
        macs = macs_table(step.space)
        narrow = macs(self._like_anchor(step, genomes, "width"))
        shallow = macs(self._like_anchor(step, genomes, "depth"))
        return tuple(genomes[(narrow - shallow).argmin()].tolist())

    def _like_anchor(self, step: Step, genomes: Genomes, kind: Kind) -> Genomes:
        """`genomes` with the widths, or depths, of the best subnet of the smallest bank."""
        best = min(self.kept[0], key=lambda genome: self.kept[0][genome], default=None)
        anchor = np.zeros(genomes.shape[1], dtype=np.int64) if best is None else np.array(best)
        columns = [i for i, gene in enumerate(step.space.genes) if gene.kind == kind]
        changed = genomes.copy()
        changed[:, columns] = anchor[columns]
        return changed

    def observe(self, step: Step, subnets: Sequence[Arch], losses: Sequence[float]) -> None:
        """Keep the bank's best subnets, by their losses on the labels."""
        members = list(subnets[: self.n])
        kept = self.kept[self.bank]
        genomes = step.space.encode(members).tolist()
        kept.update({tuple(g): loss for g, loss in zip(genomes, step.evaluate_losses(members), strict=True)})
        self.kept[self.bank] = dict(sorted(kept.items(), key=lambda item: item[1])[:SIZE])

    def state_dict(self) -> dict[str, Any]:
        """See `Sampler`."""
        kept = [[[*genome, loss] for genome, loss in bank.items()] for bank in self.kept]
        return super().state_dict() | {"kept": kept}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `Sampler`."""
        super().load_state_dict(state)
        self.kept = [{tuple(genome): loss for *genome, loss in bank} for bank in state["kept"]]
