"""The isomer step of PreNAS (Wang et al. 2023): larger choices are assigned to more important blocks.

Isomers are subnets of equal size that have the same choices, but in other blocks. Of all isomers, the one
whose more important blocks have the larger choices is used.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from search_spaces import BlockTable, Genomes, Space
from search_spaces.costs import macs_table

_SAMPLES = 32
"""Subnets on which two genes are exchanged to see whether the size of the subnet stays the same."""


def exchangeable_genes(space: Space) -> list[list[int]]:
    """Groups of genes whose values can be exchanged without a change of the MACs, as columns of genomes.

    The genes of a group are of one kind and one stage, such as the heads of all blocks of a transformer.
    """
    rng, macs = np.random.default_rng(0), macs_table(space)
    genomes = space.sample(rng, _SAMPLES)
    depths = [i for i, gene in enumerate(space.genes) if gene.kind == "depth"]
    genomes[:, depths] = space.n_options[depths] - 1  # all blocks are active
    sizes = macs(genomes)
    groups: list[list[int]] = []
    for column, gene in enumerate(space.genes):
        if gene.block is None:
            continue
        for group in groups:
            other = space.genes[group[0]]
            if (other.kind, other.stage, other.options) == (gene.kind, gene.stage, gene.options):
                exchanged = genomes.copy()
                exchanged[:, [column, group[0]]] = genomes[:, [group[0], column]]
                if (macs(exchanged) == sizes).all():
                    group.append(column)
                    break
        else:
            groups.append([column])
    return [group for group in groups if len(group) > 1]


def best_isomers(
    space: Space, genomes: Genomes, score: BlockTable, groups: Sequence[Sequence[int]]
) -> Genomes:
    """For each subnet, its isomer whose larger choices are in the blocks with the larger scores.

    Args:
        space: the space of the subnets.
        genomes: the subnets, shape (n, n_genes).
        score: scores of subnets. The importance of a block for a kind of choice is the difference in score
            between its largest and its smallest option, in the largest subnet.
        groups: as `exchangeable_genes` returns them.

    Returns:
        canonical genomes, shape (n, n_genes).
    """
    best = space.canonical(genomes)
    largest = np.asarray(space.n_options)[None] - 1
    for group in groups:
        columns = list(group)
        smaller = np.repeat(largest, len(columns), axis=0)
        smaller[np.arange(len(columns)), columns] = 0
        gains = score(largest) - score(smaller)
        full = best.copy()
        full[:, columns] = largest[:, columns]
        active = space.canonical(full)[:, columns] > 0
        values = np.where(active, best[:, columns], -1)
        ranked_values = -np.sort(-values, axis=1)  # the largest first, inactive blocks last
        ranked_blocks = np.argsort(np.where(active, -gains, np.inf), axis=1, kind="stable")
        arranged = np.zeros_like(values)
        np.put_along_axis(arranged, ranked_blocks, np.maximum(ranked_values, 0), axis=1)
        best[:, columns] = arranged
    return space.canonical(best)
