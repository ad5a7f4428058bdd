"""What is timed to profile a device for a space, and how the times become the table of its blocks."""

from __future__ import annotations

from collections.abc import Collection, Mapping
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
two profiles of the digits space, noise floor 0.56 %); boundaries are few and count in every block."""
N_CALIBRATION, N_HELD_OUT = 24, 48
HELD_OUT_PASSES = 2
"""The first is what predictions are judged by, the second tells the noise."""
N_FIT = 40
"""Calibration subnets where there is no table of blocks."""
SENTINEL, CALIBRATION, HELD_OUT = "sentinel", "calibration", "held_out"
"""Ids of models; all but the first are followed by the position."""


def n_calibration(*, supports_block_timing: bool) -> int:
    """Whole subnets that predictions are fitted to, with a table of blocks or without."""
    return N_CALIBRATION if supports_block_timing else N_FIT


@dataclass(frozen=True)
class ProfileWork:
    """Everything that is timed for one space; ids of models are prefix and position."""

    space: Space
    blocks: Mapping[str, TimedBlock]
    """By key; empty where whole subnets alone are timed."""
    calibration: list[Arch]
    held_out: list[Arch]
    """The smallest and the largest subnet first."""

    @classmethod
    def plan(
        cls,
        space: Space,
        rng: np.random.Generator,
        *,
        supports_block_timing: bool,
        n_held_out: int = N_HELD_OUT,
    ) -> Self:
        """What to time; of a small space all subnets.

        Args:
            space: its subnets and blocks.
            rng: draws the subnets.
            supports_block_timing: time the blocks; else more whole subnets.
            n_held_out: subnets that the predictions are judged on.
        """
        split = SubnetSplit.draw(
            space, rng, n_calibration(supports_block_timing=supports_block_timing), n_held_out
        )
        blocks = timed_blocks(space) | reference_blocks(space) if supports_block_timing else {}
        return cls(space, blocks, split.calibration, split.held_out)

    @classmethod
    def addition(cls, space: Space, keys: Collection[str]) -> Self:
        """Some blocks of a space alone, for the table of a device that was profiled before."""
        blocks = {key: timed for key, timed in timed_blocks(space).items() if key in keys}
        return cls(space, blocks, [], [])

    @property
    def boundaries(self) -> list[Boundary]:
        """Where blocks meet."""
        return boundaries_of(self.blocks)

    def bundle(
        self,
        settings: RunSettings,
        rng: np.random.Generator,
        seed: int,
        best_speed_probe_ms: float | None = None,
    ) -> BundleContent:
        """The work as a bundle; the smallest and the largest subnet are also checked on images."""
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
        """The network that shows how steady the device is."""
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
        """The work without blocks where results tell of whole subnets alone."""
        return self if SENTINEL in results.latency_ms else replace(self, blocks={})

    def calibration_ms(self, results: Results) -> Latencies:
        """Latency of each subnet that predictions are fitted to, shape (n,)."""
        measured = results.alone_ms(f"{CALIBRATION}{i}" for i in range(len(self.calibration)))
        assert measured is not None, "a model is measured once at least"
        return measured

    def held_out_ms(self, results: Results, nth: int) -> Latencies | None:
        """Latency in ms of each held-out subnet in a pass, shape (n,); None where not all were measured."""
        names = (f"{HELD_OUT}{i}" for i in range(len(self.held_out)))
        return results.alone_ms(names, nth, HELD_OUT_PASSES)

    def boundary_times(self, results: Results) -> dict[Boundary, BoundaryTimes]:
        """Probes and overhead at every boundary."""
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
