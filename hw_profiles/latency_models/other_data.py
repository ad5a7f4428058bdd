"""Blocks of a profiled space for other images: another number of classes, grey instead of RGB.

A space for other images has a different stem or a different head; all other blocks are equal. A profile
measures the stems for grey and for RGB images, and the largest head for a few numbers of classes. The latency
of another head is interpolated from these, in proportion to the inputs of the classifier.

On one thread of a two-core server the head of the space `cifar` in fp32 took 33, 39, 46, 54 and 74 us with
10, 100, 250, 500 and 1000 classes: linear interpolation between the measured numbers is accurate to 2 us; the
fastest subnet takes 350 us.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from hw_profiles.latency_models.block_timing import TimedBlock, timed_blocks
from hw_profiles.mixing import block_precisions
from search_spaces import Block, Space, block_key
from search_spaces.block_precision import in_precision
from search_spaces.tensors import FP32, Precision

CLASSES = (2, 10, 100, 300, 1000)
"""Numbers of classes for which the largest head is measured, in addition to that of the space."""
CHANNELS = (1, 3)
"""Numbers of image channels for which the stem is measured."""


def reference_blocks(space: Space, precision: Precision = FP32) -> dict[str, TimedBlock]:
    """The blocks that are measured for images other than those of the space, by key.

    Args:
        space: the space that is profiled.
        precision: precision of the blocks.
    """
    found: dict[str, TimedBlock] = {}
    for channels in CHANNELS:
        other = space.with_data(outputs=space.config.outputs, channels=channels)
        found |= timed_blocks(other, other.slots[:1], precision)
    for classes in CLASSES:
        key, timed = _largest_head(space, classes, precision)
        found[key] = timed
    own = timed_blocks(space, precision=precision)
    return {key: timed for key, timed in found.items() if key not in own}


def table_blocks(space: Space, precision: str) -> dict[str, TimedBlock]:
    """The blocks in the table of a profile by key: those of a space and its `reference_blocks`.

    Args:
        space: the space that is profiled, without the precision as a choice.
        precision: precision of the profile; a mixed one has all blocks in both precisions.
    """
    found: dict[str, TimedBlock] = {}
    for own in block_precisions(precision):
        found |= timed_blocks(space, precision=own) | reference_blocks(space, own)
    return found


@lru_cache(maxsize=32)
def _largest_head(space: Space, classes: int, precision: Precision) -> tuple[str, TimedBlock]:
    other = space.with_data(outputs=classes, channels=space.config.channels)
    return list(timed_blocks(other, other.slots[-1:], precision).items())[-1]


@dataclass(frozen=True)
class OtherData:
    """The latencies of the blocks of a space, derived from those of the profiled space, by key."""

    counterparts: Mapping[str, Block]
    """For each block that was not profiled: the profiled block in its place."""
    difference_ms: Mapping[str, float]
    """For each of these blocks: its latency minus the latency of its counterpart, inside a network, ms."""
    missing: tuple[str, ...]
    """Blocks whose latency cannot be derived and has to be measured."""


def other_data(
    space: Space,
    profiled: Space,
    measured_ms: Mapping[str, float],
    negligible_weights: Callable[[], float],
    precision: Precision = FP32,
) -> OtherData:
    """Derive the latencies of the blocks of `space` from the measured latencies.

    Args:
        space: the space whose latencies are predicted.
        profiled: the space that was profiled.
        measured_ms: the table of blocks; empty if only whole subnets were measured.
        negligible_weights: returns the number of weights by which a classifier may differ from a measured one
            without a measurable effect; called only if needed.
        precision: precision of the blocks.
    """
    own = set(measured_ms) or set(timed_blocks(profiled, precision=precision))
    places = _counterparts(space, profiled, precision) if space.has_blocks_of(profiled) else {}
    counterparts, differences, missing = dict[str, Block](), dict[str, float](), []
    for key, timed in timed_blocks(space, precision=precision).items():
        other = places.get(key)
        if other is None or block_key(other) not in own:
            missing += [] if key in own else [key]
            continue
        if key in measured_ms:
            difference = measured_ms[key] - measured_ms[block_key(other)]
        elif timed.block.inputs == other.inputs:
            difference = _head_difference(
                timed.block, other, profiled, measured_ms, negligible_weights, precision
            )
        else:
            difference = np.nan
        if np.isnan(difference):
            missing.append(key)
        else:
            counterparts[key], differences[key] = other, difference
    return OtherData(counterparts, differences, tuple(missing))


def _counterparts(space: Space, profiled: Space, precision: Precision) -> dict[str, Block]:
    """For each key of a block that depends on the images: the block in its place in the profiled space."""
    config = profiled.config
    base = profiled.with_data(
        outputs=config.outputs, channels=config.channels, resolutions=space.config.resolutions
    )
    found = {}
    for slot, same in ((space.slots[0], base.slots[0]), (space.slots[-1], base.slots[-1])):
        for pair in zip(space.slot_blocks(slot), base.slot_blocks(same), strict=True):
            block, other = (in_precision(each, precision) for each in pair)
            if block_key(block) != block_key(other):
                found[block_key(block)] = other
    return found


def _head_difference(
    head: Block,
    other: Block,
    profiled: Space,
    measured_ms: Mapping[str, float],
    negligible_weights: Callable[[], float],
    precision: Precision,
) -> float:
    """The latency of a head minus that of one with another number of classes, ms; NaN if it is unknown."""
    classes, own = (block.output_specs[0].channels for block in (head, other))
    inputs = head.nodes[-1].specs[0].channels
    largest = {n: _largest_head(profiled, n, precision) for n in {*CLASSES, own}}
    known = {n: measured_ms[key] for n, (key, _) in sorted(largest.items()) if key in measured_ms}
    numbers = list(known) or [own]
    nearest = min(max(classes, numbers[0]), numbers[-1])
    if nearest != classes and abs(classes - nearest) * inputs > negligible_weights():
        return np.nan
    if not known:
        return 0.0
    before, after = np.interp([own, classes], numbers, list(known.values()))
    return float(after - before) * inputs / largest[own][1].block.nodes[-1].specs[0].channels
