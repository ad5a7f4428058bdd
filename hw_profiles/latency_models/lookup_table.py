"""Measured latencies of blocks, summed into latencies of subnets."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hw_profiles.command import profile_command
from hw_profiles.latency_models.robust_regression import Affine
from search_spaces import Arch, Block, BlockTable, SlotTable, Space, block_key
from search_spaces.genomes import Genomes

COLUMNS = ("block_key", "latency_ms", "trials", "spread")
_KEYS_NAMED = 3


@dataclass(frozen=True, slots=True)
class ArchLatency:
    """Predicted latency of one arch."""

    latency_ms: float
    """NaN where keys are missing."""
    missing: tuple[str, ...]
    """Keys of its blocks that the table lacks."""


class LatencyTable:
    """Latency of subnets on one device.

    Args:
        device: name of the device, for messages.
        blocks: a row for each block: `block_key`, `latency_ms` inside a network (before calibration), number
            of `trials`, and their `spread` (interquartile range / median).
        calibration: from the sum over blocks to the latency of a whole network.
    """

    def __init__(self, device: str, blocks: pd.DataFrame, calibration: Affine) -> None:
        self.device, self.blocks, self.calibration = device, blocks, calibration
        self._latency_ms: dict[str, float] = dict(
            zip(blocks["block_key"], blocks["latency_ms"].astype(float), strict=True)
        )
        self.of = lru_cache(maxsize=8)(self._of)

    def _of(self, space: Space) -> SpaceLatency:
        """The table laid out for a space, to be called with many genomes."""
        line = self.calibration
        blocks = BlockTable(space, lambda block: line.slope * self.raw_ms(block), line.intercept_ms)
        return SpaceLatency(self, space, blocks)

    @property
    def latency_ms(self) -> Mapping[str, float]:
        """Latency of each block before calibration, by key."""
        return self._latency_ms

    def block_ms(self, key: str) -> float:
        """Latency of one block before calibration; NaN where the table lacks it."""
        return self._latency_ms.get(key, math.nan)

    def raw_ms(self, block: Block) -> float:
        """The same of the block itself."""
        return self.block_ms(block_key(block))

    def predict(self, genomes: Genomes, space: Space) -> NDArray[np.float64]:
        """Latencies in ms, shape (n,), of genomes of shape (n, n_genes), raw or canonical.

        Raises:
            ValueError: the table lacks blocks of these genomes.
        """
        return self.of(space)(genomes)

    def predict_arch(self, arch: Arch, space: Space) -> ArchLatency:
        """Latency of one arch, with the keys that the table lacks for it."""
        keys = [block_key(block) for block in space.blocks(arch)]
        missing = tuple(dict.fromkeys(key for key in keys if key not in self._latency_ms))
        return ArchLatency(self.calibration(sum(self.block_ms(key) for key in keys)), missing)


class SpaceLatency:
    """What is predicted from a latency table for one space: a callable on genomes.

    Args:
        table: to name what it lacks.
        space: where the genomes come from.
        sum: the model laid out for the space, in ms; NaN where the table lacks a block.
    """

    def __init__(self, table: LatencyTable, space: Space, sum: SlotTable) -> None:
        self.table, self.space, self._sum = table, space, sum

    @property
    def offset(self) -> float:
        """What every network has beside its blocks, in ms."""
        return self._sum.offset

    def per_slot(self, genomes: Genomes) -> NDArray[np.float64]:
        """The part of each slot in ms, shape (n, n_slots); NaN where the table lacks its block."""
        return self._sum.per_slot(genomes)

    def __call__(self, genomes: Genomes) -> NDArray[np.float64]:
        """Latencies in ms, shape (n,), of genomes of shape (n, n_genes), raw or canonical.

        Raises:
            ValueError: the table lacks blocks of these genomes.
        """
        latency_ms = self._sum(genomes)
        unknown = np.isnan(latency_ms)
        if unknown.any():
            self._refuse(np.asarray(genomes)[unknown])
        return latency_ms

    def _refuse(self, genomes: Genomes) -> None:
        archs = self.space.decode(genomes)
        missing = {key: None for arch in archs for key in self.table.predict_arch(arch, self.space).missing}
        command = profile_command(self.space.source, self.table.device)
        raise ValueError(
            f"{lacking(self.table.device, self.space, list(missing))}; measure them with `{command}`"
        )


def lacking(device: str, space: Space, keys: Sequence[str]) -> str:
    """Says which blocks of a space the table of a device lacks."""
    named = "; ".join(keys[:_KEYS_NAMED]) + ("; …" if len(keys) > _KEYS_NAMED else "")
    return (
        f"the table of the device {device!r} lacks {len(keys)} blocks of the space {space.name!r} ({named})"
    )
