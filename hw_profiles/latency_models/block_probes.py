"""What is measured on a device to build the latency table of a space.

A block timed alone is slower than inside a network: the runtime reorders memory at the start and the end of a
graph and fuses less there. So each block is timed between two calibration convolutions, 1×1 convolutions like
those that surround it in a network, and their time is subtracted. It comes from graphs of one and of three
calibration convolutions for each boundary (channels, size): conv = (t3 - t1) / 2, overhead = t1 - conv, half
of it at each end. On a space of 0.02-0.13 ms, held-out MAPE after calibration was 1.0 % with calibration
convolutions, 3.2 % with isolated blocks and the same subtraction, and 4.9 % with isolated blocks as measured
(noise floor 0.6 %).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from search_spaces import Arch, Block, Slot, Space, block_key
from search_spaces.building import BlockBuilder
from search_spaces.tensors import TensorSpec

ENUMERATED = 1000
"""Subnets of a space that are listed before some are drawn; of larger ones they are drawn one by one."""


@dataclass(frozen=True, slots=True)
class Boundary:
    """A feature map that passes from one block to the next."""

    spec: TensorSpec

    def calibration_convs(self, n: int, name: str = "calibration") -> Block:
        """A chain of `n` probes on this feature map."""
        block = BlockBuilder(name, self.spec)
        for i in range(n):
            block.conv(f"conv{i}", self.spec.channels)
        return block.build()


@dataclass(frozen=True, slots=True)
class TimedBlock:
    """A block and the probes around it; none where the network begins or ends."""

    block: Block
    before: Boundary | None
    after: Boundary | None

    @property
    def blocks(self) -> tuple[Block, ...]:
        """What is timed."""
        before = [self.before.calibration_convs(1, "before")] if self.before else []
        after = [self.after.calibration_convs(1, "after")] if self.after else []
        return (*before, self.block, *after)

    @property
    def boundaries(self) -> tuple[Boundary, ...]:
        """Edges that carry a probe."""
        return tuple(boundary for boundary in (self.before, self.after) if boundary)


def timed_blocks(space: Space, slots: Iterable[Slot] | None = None) -> dict[str, TimedBlock]:
    """Every distinct block of a space by its `block_key`.

    Args:
        space: the space.
        slots: some of its slots; None: all.
    """
    found: dict[str, TimedBlock] = {}
    first, last = space.slots[0], space.slots[-1]
    for slot in space.slots if slots is None else slots:
        for block in space.slot_blocks(slot):
            before = None if slot is first else Boundary(block.inputs[0])
            after = None if slot is last else Boundary(block.output_specs[0])
            found.setdefault(block_key(block), TimedBlock(block, before, after))
    return found


def boundaries_of(blocks: Mapping[str, TimedBlock]) -> list[Boundary]:
    """Every distinct boundary, in order of first use."""
    return list(dict.fromkeys(boundary for timed in blocks.values() for boundary in timed.boundaries))


@dataclass(frozen=True, slots=True)
class BoundaryTimes:
    """Measured graphs of one and of three probes, ms."""

    one_ms: float
    three_ms: float

    @property
    def conv_ms(self) -> float:
        """Of one probe inside a network."""
        return (self.three_ms - self.one_ms) / 2

    @property
    def overhead_ms(self) -> float:
        """Of entering and leaving a graph with such feature maps."""
        return self.one_ms - self.conv_ms


def inside_network_ms(
    timed: TimedBlock, measured_ms: float, boundaries: Mapping[Boundary, BoundaryTimes]
) -> float:
    """What a block takes inside a network, from the graph with its probes."""
    return measured_ms - sum(
        boundaries[boundary].conv_ms + boundaries[boundary].overhead_ms / 2 for boundary in timed.boundaries
    )


@dataclass(frozen=True, slots=True)
class Split:
    """Whole subnets that are measured: those that predictions are fitted to, and others to judge them on."""

    calibration: list[Arch]
    held_out: list[Arch]
    """The smallest and the largest subnet first."""

    @classmethod
    def draw(cls, space: Space, rng: np.random.Generator, n_calibration: int, n_held_out: int) -> Self:
        """Disjoint sets of subnets; the held-out ones are drawn first.

        Of a space with fewer subnets than asked for, all are taken and half of them at most is held out.
        """
        n_calibration = min(n_calibration, -(-space.n_subnets // 2))
        n_held_out = min(n_held_out, space.n_subnets - n_calibration)
        if space.n_subnets <= ENUMERATED:
            return cls._of_few(space, rng, n_calibration, n_held_out)
        held_out = held_out_subnets(space, rng, n_held_out)
        return cls(calibration_subnets(space, rng, n_calibration, held_out), held_out)

    @classmethod
    def _of_few(cls, space: Space, rng: np.random.Generator, n_calibration: int, n_held_out: int) -> Self:
        ends = list(dict.fromkeys([space.smallest, space.largest]))
        between = [arch for arch in space.decode(space.all_subnets()) if arch not in ends]
        drawn = [*ends, *(between[i] for i in rng.permutation(len(between)))]
        held_out, rest = drawn[:n_held_out], sorted(drawn[n_held_out:], key=space.macs)
        places = np.linspace(0, len(rest) - 1, n_calibration).round().astype(int)
        return cls([rest[place] for place in places], held_out)


def calibration_subnets(
    space: Space, rng: np.random.Generator, n: int, others: Sequence[Arch] = ()
) -> list[Arch]:
    """`n` different random subnets spread from small to large, so that a line through them is well supported.

    Each gene of the i-th is drawn from a binomial distribution whose mean rises with i; uniform draws would
    all lie near the middle.

    Args:
        space: where they are drawn.
        rng: draws them.
        n: how many.
        others: subnets that none of them may be.
    """
    chosen: dict[Arch, None] = {}
    while len(chosen) < n:
        share = (len(chosen) + 0.5) / n
        row = rng.binomial(space.n_options - 1, share)
        arch = space.decode(row[None])[0]
        if arch not in others:
            chosen[arch] = None
    return list(chosen)


def held_out_subnets(space: Space, rng: np.random.Generator, n: int) -> list[Arch]:
    """The smallest, the largest and uniformly random subnets, `n` different ones in all."""
    chosen = dict.fromkeys([space.smallest, space.largest])
    while len(chosen) < n:
        chosen[space.decode(space.sample(rng, 1))[0]] = None
    return list(chosen)
