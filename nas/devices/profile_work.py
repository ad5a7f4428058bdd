"""The graphs that are timed to profile a device for a space, and the latency table from their times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
)
from hw_profiles.latency_models.borders import (
    BorderGraph,
    border_frame,
    border_graphs,
    borders_in,
    fit_borders,
)
from hw_profiles.latency_models.lookup_table import COLUMNS
from hw_profiles.latency_models.mixed_subnets import mixed_split
from hw_profiles.latency_models.other_data import table_blocks
from hw_profiles.latency_models.prediction_error import Latencies
from hw_profiles.latency_models.subnet_split import SubnetSplit
from hw_profiles.measuring.bundle import BundleContent, Images
from hw_profiles.measuring.results import Results
from hw_profiles.run_settings import RunSettings
from nas.devices.check_images import noise_images
from nas.devices.device_graphs import TimedGraph, bundled
from search_spaces import Arch, Space, block_key
from search_spaces.precision_space import base_space, with_precision
from search_spaces.tensors import FP32, MIXED

BLOCK_TRIALS, BOUNDARY_TRIALS, SENTINEL_TRIALS = 3, 8, 60
"""Trials of each graph. Boundaries have more trials than blocks because each of them affects many blocks.

With 1, 2, 3 and 4 trials of the blocks, the held-out MAPE was 1.00, 0.96, 0.92 and 0.89 % (mean of two
profiles of the digits space, noise floor 0.56 %)."""
N_CALIBRATION, N_HELD_OUT = 24, 48
HELD_OUT_PASSES = 2
"""The first pass gives the error of predictions. Its difference from the second pass gives the noise
floor."""
N_FIT = 40
"""Number of calibration subnets if only whole subnets are timed, without a table of blocks."""
SENTINEL, CALIBRATION, HELD_OUT = "sentinel", "calibration", "held_out"
"""Ids of models; `CALIBRATION` and `HELD_OUT` are followed by an index."""


@dataclass(frozen=True)
class ProfileWork:
    """All graphs that are timed for one space."""

    space: Space
    """The space of the subnets; in a mixed profile, the precision of each block is a choice of this space."""
    blocks: Mapping[str, TimedBlock]
    """Blocks by key; empty if only whole subnets are timed."""
    calibration: list[Arch]
    held_out: list[Arch]
    """The smallest and the largest subnet come first."""
    borders: Sequence[BorderGraph] = ()
    """Graphs for the costs of borders, in a mixed profile."""
    rows: pd.DataFrame | None = None
    """Rows of the table that are already known; None: they are measured."""

    @classmethod
    def plan(
        cls,
        space: Space,
        rng: np.random.Generator,
        *,
        precision: str = FP32,
        supports_block_timing: bool,
        n_held_out: int = N_HELD_OUT,
        rows: pd.DataFrame | None = None,
    ) -> Self:
        """Select the graphs to time; in a small space, all subnets are timed.

        Args:
            space: the space without the precision as a choice.
            rng: the random generator that draws the subnets.
            precision: precision of the profile.
            supports_block_timing: whether to time blocks; otherwise more whole subnets are timed.
            n_held_out: number of subnets for the error of predictions.
            rows: rows of the table of a mixed profile that are already known, so that only borders and whole
                subnets are timed.

        Raises:
            ValueError: the profile is mixed, and blocks cannot be timed.
        """
        if precision == MIXED:
            check_block_timing(supports_block_timing)
            blocks = table_blocks(space, precision)
            borders = border_graphs(space, blocks)
            if rows is not None:
                blocks = {block_key(timed.block): timed for graph in borders for timed in graph.timed}
            split = mixed_split(space, rng, N_CALIBRATION, n_held_out)
            subnets = with_precision(space, "block")
            return cls(subnets, blocks, split.calibration, split.held_out, borders, rows)
        n_calibration = N_CALIBRATION if supports_block_timing else N_FIT
        split = SubnetSplit.draw(space, rng, n_calibration, n_held_out)
        blocks = table_blocks(space, precision) if supports_block_timing else {}
        return cls(space, blocks, split.calibration, split.held_out)

    @classmethod
    def addition(cls, space: Space, blocks: Mapping[str, TimedBlock]) -> Self:
        """The work of timing only some blocks of a space, to extend the table of a device."""
        return cls(space, blocks, [], [])

    @property
    def boundaries(self) -> list[Boundary]:
        """The boundaries that have calibration convolutions."""
        own = [boundary for graph in self.borders for boundary in graph.boundaries]
        return list(dict.fromkeys([*boundaries_of(self.blocks), *own]))

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
            *(TimedGraph(f"border{i}", g.blocks, BOUNDARY_TRIALS) for i, g in enumerate(self.borders)),
        ]

    @property
    def _middle(self) -> Arch:
        """The sentinel: a network that is timed repeatedly to show how steady the device is."""
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
        """This work, but without blocks if the results contain only whole subnets.

        Raises:
            ValueError: the profile is mixed, which needs the times of blocks.
        """
        if SENTINEL in results.latency_ms:
            return self
        check_block_timing(not self.borders)
        return replace(self, blocks={})

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
        """The latencies of blocks as a table, see `LatencyTable`."""
        if self.rows is not None:
            return self.rows
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

    def border_frame(self, results: Results) -> pd.DataFrame | None:
        """The costs of borders between precisions, see `BorderTable`; None in a profile of one precision."""
        if not self.borders:
            return None
        boundaries = self.boundary_times(results)
        block_ms = {
            timed: inside_network_ms(timed, results.latency_ms[f"block{i}"], boundaries)
            for i, timed in enumerate(self.blocks.values())
        }
        measured = np.array([results.latency_ms[f"border{i}"] for i in range(len(self.borders))])
        parts = np.array([graph.parts_ms(boundaries, block_ms) for graph in self.borders])
        costs = fit_borders(self.borders, measured, parts)
        return border_frame(borders_in(base_space(self.space)), costs)

    def boundary_frame(self, results: Results) -> pd.DataFrame:
        """The times of the calibration convolutions as a table, see `Device.boundaries`."""
        rows = [
            {
                "channels": boundary.spec.channels,
                "size": boundary.spec.size[0],
                "conv_ms": times.conv_ms,
                "overhead_ms": times.overhead_ms,
                "precision": boundary.spec.precision,
            }
            for boundary, times in self.boundary_times(results).items()
        ]
        return pd.DataFrame(rows, columns=["channels", "size", "conv_ms", "overhead_ms", "precision"])


def check_block_timing(supported: bool) -> None:
    """Check that the blocks of a mixed profile can be timed.

    Raises:
        ValueError: `supported` is False.
    """
    if not supported:
        raise ValueError(
            "precision mixed needs a device that can time single blocks, but this device times only whole "
            "networks; profile it with --precision fp32 or int8"
        )
