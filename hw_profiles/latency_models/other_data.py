"""Blocks of a profiled space for other images: another number of classes, grey instead of RGB.

A space for other images has another stem or another head; everything between is equal. A profile measures the
stems for grey and for RGB images, and the largest head for a few numbers of classes. What another head takes
follows from these by interpolation, in proportion to the inputs of the classifier.

On one thread of a two-core server the head of the space `cifar` in fp32 took 33, 39, 46, 54 and 74 us with
10, 100, 250, 500 and 1000 classes: straight lines between the measured numbers are within 2 us; the fastest
subnet takes 350 us.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from hw_profiles.latency_models.block_probes import TimedBlock, timed_blocks
from search_spaces import Block, Space, block_key

CLASSES = (2, 10, 100, 300, 1000)
"""Numbers of classes that the largest head is measured with, beside the space's own."""
CHANNELS = (1, 3)
"""Channels of images that the stem is measured with."""


def reference_blocks(space: Space) -> dict[str, TimedBlock]:
    """The blocks that are measured for other images than the space's own, by key."""
    found: dict[str, TimedBlock] = {}
    for channels in CHANNELS:
        other = space.with_data(classes=space.config.classes, channels=channels)
        found |= timed_blocks(other, other.slots[:1])
    for classes in CLASSES:
        key, timed = _largest_head(space, classes)
        found[key] = timed
    return {key: timed for key, timed in found.items() if key not in timed_blocks(space)}


def _largest_head(space: Space, classes: int) -> tuple[str, TimedBlock]:
    other = space.with_data(classes=classes, channels=space.config.channels)
    return list(timed_blocks(other, other.slots[-1:]).items())[-1]


@dataclass(frozen=True)
class OtherData:
    """How the blocks of a space follow from those of the space that was profiled, by key."""

    counterparts: Mapping[str, Block]
    """The profiled block in the same place, for each block that was not profiled itself."""
    difference_ms: Mapping[str, float]
    """What such a block takes beyond its counterpart inside a network."""
    lacking: tuple[str, ...]
    """Blocks that do not follow: they have to be measured."""


def other_data(
    space: Space,
    profiled: Space,
    measured_ms: Mapping[str, float],
    negligible_weights: Callable[[], float],
) -> OtherData:
    """How the blocks of `space` follow from what was measured.

    Args:
        space: the space whose subnets are to be predicted.
        profiled: the space that was profiled.
        measured_ms: the table of blocks; empty where whole subnets alone were measured.
        negligible_weights: by how many weights a classifier may differ from a measured one before a
            measurement shows it; called where this decides.
    """
    own = set(measured_ms) or set(timed_blocks(profiled))
    places = _counterparts(space, profiled) if space.same_but_for_data(profiled) else {}
    counterparts, differences, lacking = dict[str, Block](), dict[str, float](), []
    for key, timed in timed_blocks(space).items():
        other = places.get(key)
        if other is None or block_key(other) not in own:
            lacking += [] if key in own else [key]
            continue
        if key in measured_ms:
            difference = measured_ms[key] - measured_ms[block_key(other)]
        elif timed.block.inputs == other.inputs:
            difference = _head_difference(timed.block, other, profiled, measured_ms, negligible_weights)
        else:
            difference = np.nan
        if np.isnan(difference):
            lacking.append(key)
        else:
            counterparts[key], differences[key] = other, difference
    return OtherData(counterparts, differences, tuple(lacking))


def _counterparts(space: Space, profiled: Space) -> dict[str, Block]:
    """By key of a block that images change: the block in the same place of the profiled space."""
    config = profiled.config
    base = profiled.with_data(
        classes=config.classes, channels=config.channels, resolutions=space.config.resolutions
    )
    found = {}
    for slot, same in ((space.slots[0], base.slots[0]), (space.slots[-1], base.slots[-1])):
        for block, other in zip(space.slot_blocks(slot), base.slot_blocks(same), strict=True):
            if block_key(block) != block_key(other):
                found[block_key(block)] = other
    return found


def _head_difference(
    head: Block,
    other: Block,
    profiled: Space,
    measured_ms: Mapping[str, float],
    negligible_weights: Callable[[], float],
) -> float:
    """What a head takes beyond one with another number of classes, ms; NaN where nobody knows."""
    classes, own = (block.output_specs[0].channels for block in (head, other))
    inputs = head.nodes[-1].specs[0].channels
    largest = {n: _largest_head(profiled, n) for n in {*CLASSES, own}}
    known = {n: measured_ms[key] for n, (key, _) in sorted(largest.items()) if key in measured_ms}
    numbers = list(known) or [own]
    nearest = min(max(classes, numbers[0]), numbers[-1])
    if nearest != classes and abs(classes - nearest) * inputs > negligible_weights():
        return np.nan
    if not known:
        return 0.0
    before, after = np.interp([own, classes], numbers, list(known.values()))
    return float(after - before) * inputs / largest[own][1].block.nodes[-1].specs[0].channels
