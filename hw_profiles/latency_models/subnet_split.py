"""Draws the whole subnets that a latency model is fitted to and those that it is tested on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from search_spaces import Arch, Space

MAX_ENUMERATED = 1000
"""Spaces with at most this many subnets are enumerated; from larger ones, subnets are drawn one by one."""


@dataclass(frozen=True, slots=True)
class SubnetSplit:
    """Disjoint sets of whole subnets."""

    calibration: list[Arch]
    """The latency model is fitted to these."""
    held_out: list[Arch]
    """The latency model is tested on these; the smallest and the largest subnet come first."""

    @classmethod
    def draw(cls, space: Space, rng: np.random.Generator, n_calibration: int, n_held_out: int) -> Self:
        """Draw both sets, the held-out one first.

        If the space has fewer subnets than requested, all are taken and at most half of them are held out.
        """
        n_calibration = min(n_calibration, -(-space.n_subnets // 2))
        n_held_out = min(n_held_out, space.n_subnets - n_calibration)
        if space.n_subnets <= MAX_ENUMERATED:
            return cls._enumerated(space, rng, n_calibration, n_held_out)
        held_out = held_out_subnets(space, rng, n_held_out)
        return cls(calibration_subnets(space, rng, n_calibration, held_out), held_out)

    @classmethod
    def _enumerated(cls, space: Space, rng: np.random.Generator, n_calibration: int, n_held_out: int) -> Self:
        ends = list(dict.fromkeys([space.smallest, space.largest]))
        between = [arch for arch in space.decode(space.all_subnets()) if arch not in ends]
        drawn = [*ends, *(between[i] for i in rng.permutation(len(between)))]
        held_out, rest = drawn[:n_held_out], sorted(drawn[n_held_out:], key=space.macs)
        places = np.linspace(0, len(rest) - 1, n_calibration).round().astype(int)
        return cls([rest[place] for place in places], held_out)


def calibration_subnets(
    space: Space, rng: np.random.Generator, n: int, excluded: Sequence[Arch] = ()
) -> list[Arch]:
    """`n` different random subnets spread from small to large, so that a line through them is well supported.

    Each gene of the i-th subnet is drawn from a binomial distribution whose mean rises with i; uniform draws
    would concentrate near the middle.

    Args:
        space: the space.
        rng: the random generator.
        n: number of subnets.
        excluded: subnets that must not be drawn.
    """
    chosen: dict[Arch, None] = {}
    while len(chosen) < n:
        share = (len(chosen) + 0.5) / n
        row = rng.binomial(space.n_options - 1, share)
        arch = space.decode(row[None])[0]
        if arch not in excluded:
            chosen[arch] = None
    return list(chosen)


def held_out_subnets(space: Space, rng: np.random.Generator, n: int) -> list[Arch]:
    """The smallest, the largest and uniformly random subnets, `n` different ones in total."""
    chosen = dict.fromkeys([space.smallest, space.largest])
    while len(chosen) < n:
        chosen[space.decode(space.sample(rng, 1))[0]] = None
    return list(chosen)
