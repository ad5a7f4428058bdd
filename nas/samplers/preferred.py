"""Training of a few subnets, selected before training by a zero-cost score."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import torch

from nas.samplers.base import FixedRule, Step
from nas.samplers.isomers import best_isomers, exchangeable_genes
from nas.samplers.macs_bins import MacsBins, spread
from nas.torch_backend.elastic import take
from nas.torch_backend.supernet import Supernet
from search_spaces import Arch, BlockTable, Genomes, Node, Space

SUBNETS = 16
"""Number of intervals of MACs; one subnet of each is trained."""
CANDIDATES = 4_000
NOISE_IMAGES = 64


class Preferred(FixedRule):
    """One of a few preferred subnets per step (PreNAS, Wang et al. 2023).

    The preferred subnets have the best score in each interval of MACs. The candidates are random subnets
    after the isomer step, see `nas.samplers.isomers`.

    Args:
        space: the space of the supernet.
        seed: seed of the untrained weights and the noise from which the score is computed.
    """

    def __init__(self, space: Space, seed: int) -> None:
        self.space = space
        self.seed = seed
        self.bins = MacsBins(SUBNETS)
        self.genomes: Genomes | None = None
        """The preferred subnets, shape (n, n_genes) with n <= SUBNETS; None before the first step."""

    def subnets(self, step: Step) -> list[Arch]:
        """See `Sampler`."""
        if self.genomes is None:
            self.genomes = self._preferred(step)
        return step.decode(self.genomes[[step.rng.integers(len(self.genomes))]])

    def _preferred(self, step: Step) -> Genomes:
        """The candidate with the best score of each interval of MACs."""
        score_of = saliency(self.space, self.seed)
        genomes = spread(step, CANDIDATES)
        genomes = best_isomers(self.space, genomes, score_of, exchangeable_genes(self.space))
        bins, score = self.bins.of(step, genomes), score_of(genomes)
        best_last = np.argsort(score, kind="stable")
        by_bin = {int(bins[i]): i for i in best_last}
        return genomes[sorted(by_bin.values())]

    def state_dict(self) -> dict[str, Any]:
        """See `Sampler`."""
        return {"genomes": None if self.genomes is None else self.genomes.tolist()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `Sampler`."""
        self.genomes = None if state["genomes"] is None else np.array(state["genomes"])


def saliency(space: Space, seed: int) -> BlockTable:
    """Saliency scores of subnets, from one backward pass of the untrained supernet on noise.

    The score of a layer is the sum of |w g| over the weights of the subnet, divided by (sum |w| sum |g|) over
    all weights of the layer. The score of a subnet is the sum over its layers (PreNAS, Wang et al. 2023).

    Args:
        space: the space of the subnets.
        seed: seed of the weights and the noise.
    """
    supernet = Supernet(space, seed, zero_init_residual=False)  # zeros would block the gradients
    supernet.train()
    largest = space.largest
    size = space.image_size(largest)
    noise = torch.Generator().manual_seed(seed)
    images = torch.randn(NOISE_IMAGES, space.config.channels, size, size, generator=noise)
    for arch in archs_with_every_layer(space):
        supernet(images, arch).sum().backward()
        # a layer is scored in the first network that contains the layer, nearly always the largest network
        for parameter in supernet.parameters():
            if parameter.grad is not None:
                parameter.requires_grad = False

    def score(node: Node) -> float:
        weight = supernet.operator(node).get_parameter("weight")
        gradient = weight.grad
        assert gradient is not None
        normalization = weight.detach().abs().sum() * gradient.abs().sum()
        active = take((weight.detach() * gradient).abs(), node.parameters["weight"])
        return float(active.sum() / normalization.clamp_min(torch.finfo().tiny))

    return BlockTable(space, lambda block: sum(score(node) for node in block.nodes if _is_layer(node)))


def _is_layer(node: Node) -> bool:
    """Whether the node is a convolution or a linear layer."""
    return node.macs > 0 and "weight" in node.parameters


def archs_with_every_layer(space: Space) -> list[Arch]:
    """Subnets that together contain every layer: the largest one, and others that differ from it in one slot.

    The largest subnet may lack the convolution of a shortcut, which only blocks with unequal widths have.
    """
    largest = space.largest
    archs, seen = [largest], _layers(space, largest)
    for slot in space.slots:
        names = tuple(dict.fromkeys(slot.choices))
        for values in itertools.product(*(space.choices[name].options for name in names)):
            arch = space.arch(largest | dict(zip(names, values, strict=True)))
            new = _layers(space, arch) - seen
            if new:
                archs.append(arch)
                seen |= new
    return archs


def _layers(space: Space, arch: Arch) -> set[str]:
    """Paths of the nodes that have weights."""
    return {node.path for node in space.network(arch).nodes if node.parameters}
