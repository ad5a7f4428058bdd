"""Draws the whole subnets of a mixed profile: in fp32, in INT8, and with runs of blocks of each precision."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hw_profiles.latency_models.borders import borders_of
from hw_profiles.latency_models.subnet_split import SubnetSplit
from search_spaces import Arch, Space
from search_spaces.block_precision import precision_of
from search_spaces.precision_space import FLOAT_BITS, INT8_BITS, PrecisionSpace, with_precision
from search_spaces.tensors import FP32, INT8, MIXED

GROUPS: tuple[str, ...] = (MIXED, FP32, INT8)
"""Groups of subnets by their precision."""
RUN_LENGTH = 3
"""Mean number of consecutive blocks of equal precision, so that subnets have from one to many borders."""


def mixed_split(space: Space, rng: np.random.Generator, n_calibration: int, n_held_out: int) -> SubnetSplit:
    """Archs of `space` with a precision for each block, for calibration and held out.

    Args:
        space: the space without the precision as a choice.
        rng: the random generator.
        n_calibration: number of calibration subnets of mixed precision; a third as many are in fp32, and in
            INT8. There are fewer if the space is small.
        n_held_out: number of held-out subnets, a third in each group. The group of mixed precision comes
            first; each group begins with the smallest and the largest subnet.
    """
    by_block = with_precision(space, "block")
    calibration, held_out = list[Arch](), list[Arch]()
    for group in GROUPS:
        n = n_calibration if group == MIXED else -(-n_calibration // len(GROUPS))
        split = SubnetSplit.draw(space, rng, n, -(-n_held_out // len(GROUPS)))
        calibration += [_in_group(by_block, arch, group, rng) for arch in split.calibration]
        held_out += [_in_group(by_block, arch, group, rng) for arch in split.held_out]
    return SubnetSplit(calibration, held_out)


def group_of(space: Space, arch: Arch) -> str:
    """The group of an arch of a space with the precision as a choice."""
    precisions = {precision_of(block) for block in space.blocks(arch)}
    return precisions.pop() if len(precisions) == 1 else MIXED


def n_borders(space: Space, arch: Arch) -> int:
    """Number of blocks of an arch at whose start values are converted."""
    return sum(bool(borders_of(block)) for block in space.blocks(arch))


def _in_group(space: PrecisionSpace, arch: Arch, group: str, rng: np.random.Generator) -> Arch:
    names = [block.name for block in space.base.blocks(arch)]
    if group == FP32 or len(names) == 1:
        return space.uniform(arch, FP32)
    if group == INT8:
        return space.uniform(arch, INT8)
    bits = _runs(len(names), rng)
    return Arch({**arch, **{f"{name}.bits": own for name, own in zip(names, bits, strict=True)}})


def _runs(n: int, rng: np.random.Generator) -> Sequence[int]:
    """Bits of `n` consecutive blocks, both precisions among them, with geometric lengths of runs."""
    while True:
        changes = rng.random(n - 1) < 1 / RUN_LENGTH
        if changes.any():
            in_int8 = (np.cumsum([rng.integers(2), *changes]) % 2).astype(bool)
            return [INT8_BITS if one else FLOAT_BITS for one in in_int8]
