"""The graphs that are timed to profile a device for a space, and the latency table from their times."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import pandas as pd

from hw_profiles.latency_models.block_timing import (
    Boundary,
    BoundaryTimes,
    TimedBlock,
    boundaries_of,
    inside_network_ms,
    timed_blocks,
)
from hw_profiles.latency_models.lookup_table import COLUMNS
from hw_profiles.latency_models.other_data import reference_blocks
from hw_profiles.latency_models.prediction_error import Latencies
from hw_profiles.latency_models.subnet_split import SubnetSplit
from hw_profiles.measuring.bundle import BundleContent, Images
from hw_profiles.measuring.results import Results
from hw_profiles.run_settings import RunSettings
from nas.devices.check_images import noise_images
from nas.devices.device_graphs import TimedGraph, bundled
from search_spaces import Arch, Space

BLOCK_TRIALS, BOUNDARY_TRIALS, SENTINEL_TRIALS = 3, 8, 60
"""Trials of each graph. Held-out MAPE with 1, 2, 3, 4 trials of the blocks: 1.00, 0.96, 0.92, 0.89 % (mean of
two profiles of the digits space, noise floor 0.56 %); each boundary affects many blocks."""
N_CALIBRATION, N_HELD_OUT = 24, 48
HELD_OUT_PASSES = 2
"""The first pass gives the error of predictions, the second one the noise floor."""
N_FIT = 40
"""Number of calibration subnets without a table of blocks."""
SENTINEL, CALIBRATION, HELD_OUT = "sentinel", "calibration", "held_out"
"""Ids of models; all but the first are followed by an index."""


@dataclass(frozen=True)
class ProfileWork:
    """All graphs that are timed for one space."""

    space: Space
    blocks: Mapping[str, TimedBlock]
    """Blocks by key; empty if only whole subnets are timed."""
    calibration: list[Arch]
    held_out: list[Arch]
    """The smallest and the largest subnet come first."""

    @classmethod
    def plan(
        cls,
        space: Space,
        rng: np.random.Generator,
        *,
        supports_block_timing: bool,
        n_held_out: int = N_HELD_OUT,
    ) -> Self:
        """Select what is timed; all subnets of a small space.

        Args:
            space: the space.
            rng: the random generator that draws the subnets.
            supports_block_timing: whether to time blocks; otherwise more whole subnets are timed.
            n_held_out: number of subnets for the error of predictions.
        """
        n_calibration = N_CALIBRATION if supports_block_timing else N_FIT
        split = SubnetSplit.draw(space, rng, n_calibration, n_held_out)
        blocks = timed_blocks(space) | reference_blocks(space) if supports_block_timing else {}
        return cls(space, blocks, split.calibration, split.held_out)

    @classmethod
    def addition(cls, space: Space, blocks: Mapping[str, TimedBlock]) -> Self:
        """Only some blocks of a space, to extend the table of a device."""
        return cls(space, blocks, [], [])

    @property
    def boundaries(self) -> list[Boundary]:
        """The boundaries between blocks."""
        return boundaries_of(self.blocks)

    def bundle(
        self,
        settings: RunSettings,
        rng: np.random.Generator,
        seed: int,
        best_speed_probe_ms: float | None = None,
    ) -> BundleContent:
        """The graphs as a bundle; the outputs of the smallest and the largest subnet are checked."""
        models, weights = bundled([*self._parts(), *self._networks()], settings, rng)
        return BundleContent(
            models=models,
            settings=settings,
            weights=weights,
            images=self._images(),
            space=self.space.name,
            sentinel=SENTINEL if self.blocks else None,
            best_speed_probe_ms=best_speed_probe_ms,
            seed=seed,
        )

    def _parts(self) -> list[TimedGraph]:
        if not self.blocks:
            return []
        middle = self.space.blocks(self._middle)
        boundaries = self.boundaries
        return [
            TimedGraph(SENTINEL, middle, SENTINEL_TRIALS),
            *(TimedGraph(f"block{i}", b.blocks, BLOCK_TRIALS) for i, b in enumerate(self.blocks.values())),
            *(
                TimedGraph(f"one{i}", (boundary.calibration_convs(1),), BOUNDARY_TRIALS)
                for i, boundary in enumerate(boundaries)
            ),
            *(
                TimedGraph(f"three{i}", (boundary.calibration_convs(3),), BOUNDARY_TRIALS)
                for i, boundary in enumerate(boundaries)
            ),
        ]

    @property
    def _middle(self) -> Arch:
        """The network that is timed again and again to show how steady the device is."""
        return self.calibration[len(self.calibration) // 2] if self.calibration else self.space.smallest

    def _networks(self) -> list[TimedGraph]:
        def network(name: str, arch: Arch, passes: int, images: str | None = None) -> TimedGraph:
            return TimedGraph(name, self.space.blocks(arch), passes, alone=True, images=images)

        return [
            *(network(f"{CALIBRATION}{i}", arch, 1) for i, arch in enumerate(self.calibration)),
            *(
                network(f"{HELD_OUT}{i}", arch, HELD_OUT_PASSES, images=self._size(arch) if i < 2 else None)
                for i, arch in enumerate(self.held_out)
            ),
        ]

    def _images(self) -> dict[str, Images]:
        channels = self.space.config.channels
        sizes = {self._size(arch): self.space.image_size(arch) for arch in self.held_out[:2]}
        return {name: noise_images(channels, size) for name, size in sizes.items()}

    def _size(self, arch: Arch) -> str:
        return str(self.space.image_size(arch))

    def measured_by(self, results: Results) -> Self:
        """The same without blocks if the results contain only whole subnets."""
        return self if SENTINEL in results.latency_ms else replace(self, blocks={})

    def calibration_ms(self, results: Results) -> Latencies:
        """Latency of each calibration subnet in ms, shape (n,)."""
        measured = results.alone_ms(f"{CALIBRATION}{i}" for i in range(len(self.calibration)))
        assert measured is not None, "a model is measured once at least"
        return measured

    def held_out_ms(self, results: Results, nth: int) -> Latencies | None:
        """Latency of each held-out subnet in a pass in ms, shape (n,); None if one was not measured."""
        names = (f"{HELD_OUT}{i}" for i in range(len(self.held_out)))
        return results.alone_ms(names, nth, HELD_OUT_PASSES)

    def boundary_times(self, results: Results) -> dict[Boundary, BoundaryTimes]:
        """Times of the calibration convolutions at every boundary."""
        ms = results.latency_ms
        return {
            boundary: BoundaryTimes(ms[f"one{i}"], ms[f"three{i}"])
            for i, boundary in enumerate(self.boundaries)
        }

    def block_frame(self, results: Results) -> pd.DataFrame:
        """See `LatencyTable`."""
        boundaries = self.boundary_times(results)
        rows = []
        for i, (key, timed) in enumerate(self.blocks.items()):
            trials = results.trials_ms[f"block{i}"]
            low, middle, high = np.quantile(trials, [0.25, 0.5, 0.75])
            rows.append(
                {
                    "block_key": key,
                    "latency_ms": inside_network_ms(timed, results.latency_ms[f"block{i}"], boundaries),
                    "trials": len(trials),
                    "spread": (high - low) / middle,
                }
            )
        return pd.DataFrame(rows, columns=COLUMNS)

    def boundary_frame(self, results: Results) -> pd.DataFrame:
        """See `Device.boundaries`."""
        rows = [
            {
                "channels": boundary.spec.channels,
                "size": boundary.spec.size[0],
                "conv_ms": times.conv_ms,
                "overhead_ms": times.overhead_ms,
            }
            for boundary, times in self.boundary_times(results).items()
        ]
        return pd.DataFrame(rows, columns=["channels", "size", "conv_ms", "overhead_ms"])
