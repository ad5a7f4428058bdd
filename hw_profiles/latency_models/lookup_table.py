"""Measured latencies of blocks, summed to latencies of subnets."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hw_profiles.command import profile_command
from hw_profiles.latency_models.borders import BorderTable
from hw_profiles.latency_models.robust_regression import Affine
from search_spaces import Arch, Block, BlockTable, SlotTable, Space, block_key
from search_spaces.block_precision import border, without_border
from search_spaces.genomes import Genomes

COLUMNS = ("block_key", "latency_ms", "trials", "spread")
_N_LISTED = 3


class LatencyTable:
    """Latency of subnets on one device.

    Args:
        device: name of the device, for messages.
        blocks: one row for each block: `block_key`, `latency_ms` inside a network (before calibration),
            number of `trials`, and their `spread` (interquartile range / median).
        calibration: from the sum over blocks to the latency of a whole network.
        borders: costs of borders between precisions, see `BorderTable`; None: the table has one precision.
    """

    def __init__(
        self, device: str, blocks: pd.DataFrame, calibration: Affine, borders: pd.DataFrame | None = None
    ) -> None:
        self.device, self.blocks, self.calibration = device, blocks, calibration
        self._border_ms = None if borders is None else BorderTable(borders)
        self.latency_ms: Mapping[str, float] = dict(
            zip(blocks["block_key"], blocks["latency_ms"].astype(float), strict=True)
        )
        """Latency of each block before calibration, by key."""
        self.of = lru_cache(maxsize=8)(self._of)

    def _of(self, space: Space) -> SpaceLatency:
        """The latency model of the table for a space, to be called with many genomes."""
        line = self.calibration
        blocks = BlockTable(space, lambda block: line.slope * self.block_ms(block), line.intercept_ms)
        return SpaceLatency(self, space, blocks)

    def block_ms(self, block: Block) -> float:
        """Latency of a block with its borders before calibration; NaN if it was not measured."""
        if self._border_ms is None or not border(block):
            return self.latency_ms.get(block_key(block), math.nan)
        return self.latency_ms.get(block_key(without_border(block)), math.nan) + self._border_ms(block)

    def predict(self, genomes: Genomes, space: Space) -> NDArray[np.float64]:
        """Latencies in ms, shape (n,), of genomes of shape (n, n_genes), raw or canonical.

        Raises:
            ValueError: blocks of these genomes were not measured.
        """
        return self.of(space)(genomes)

    def missing_keys(self, archs: Iterable[Arch], space: Space) -> list[str]:
        """Keys of the blocks of some archs that were not measured."""
        blocks = {block_key(block): block for arch in archs for block in space.blocks(arch)}
        return [key for key, block in blocks.items() if math.isnan(self.block_ms(block))]


class SpaceLatency:
    """The latency model of a device for one space: a function of genomes.

    Args:
        table: the measured blocks, for messages.
        space: the space of the genomes.
        model: the latency of each block of the space in ms; NaN if it is unknown.
    """

    def __init__(self, table: LatencyTable, space: Space, model: SlotTable) -> None:
        self.table, self.space, self._model = table, space, model

    @property
    def offset(self) -> float:
        """The latency of a network without its blocks, in ms."""
        return self._model.offset

    def per_slot(self, genomes: Genomes) -> NDArray[np.float64]:
        """The latency of each slot in ms, shape (n, n_slots); NaN if it is unknown."""
        return self._model.per_slot(genomes)

    def __call__(self, genomes: Genomes) -> NDArray[np.float64]:
        """Latencies in ms, shape (n,), of genomes of shape (n, n_genes), raw or canonical.

        Raises:
            ValueError: blocks of these genomes were not measured.
        """
        latency_ms = self._model(genomes)
        unknown = np.isnan(latency_ms)
        if unknown.any():
            archs = self.space.decode(np.asarray(genomes)[unknown])
            missing = self.table.missing_keys(archs, self.space)
            message = missing_blocks_message(self.table.device, self.space, missing)
            command = profile_command(self.space.source, self.table.device)
            raise ValueError(f"{message}; measure them with `{command}`")
        return latency_ms


def missing_blocks_message(device: str, space: Space, keys: Sequence[str]) -> str:
    """The message that blocks of a space were not measured on a device."""
    listed = "; ".join(keys[:_N_LISTED]) + ("; …" if len(keys) > _N_LISTED else "")
    return (
        f"the table of the device {device!r} lacks {len(keys)} blocks of the space {space.name!r} ({listed})"
    )
