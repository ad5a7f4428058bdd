"""A measured device and its latency predictions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from hw_profiles.command import mixed_profile_command, profile_command
from hw_profiles.latency_models.base import TABLE as TABLE_MODEL
from hw_profiles.latency_models.lookup_table import LatencyTable, SpaceLatency, missing_blocks_message
from hw_profiles.latency_models.other_data import OtherData, other_data
from hw_profiles.latency_models.prediction_error import Latencies
from hw_profiles.latency_models.robust_regression import IDENTITY, fit_affine
from hw_profiles.mixing import block_precisions
from hw_profiles.profile import DeviceProfile
from search_spaces import Arch, Block, BlockTable, Space, block_key
from search_spaces.block_precision import in_precision, precision_of, reads_floats, without_border
from search_spaces.precision_space import base_space, with_precision
from search_spaces.tensors import FP32, MIXED

FITTED_COLUMNS = ("arch", "measured_latency_ms")
CLASSIFIER_COST = 4.0
"""Upper limit of the time per weight of a classifier / time per multiply-accumulate of a whole network. A
classifier uses each weight only once after reading it."""
THIS_MACHINE = "this-machine"
"""Suggested name for the profile of this machine."""


@dataclass(frozen=True)
class Device:
    """A measured device."""

    profile: DeviceProfile
    blocks: pd.DataFrame
    """See `LatencyTable`."""
    boundaries: pd.DataFrame
    """The times that are subtracted at the boundaries of blocks, one row for each boundary: `channels`,
    `size`, `conv_ms`, `overhead_ms`, and `precision` in new profiles."""
    fitted: pd.DataFrame
    """The whole subnets that the latency model is fitted to: `arch` (JSON), `measured_latency_ms`. The model
    is not stored; fitting it again gives the same result."""
    held_out: pd.DataFrame
    """The subnets on which the errors of the profile were measured: `arch_id`, `arch` (JSON), `macs`,
    `predicted_latency_ms`, `measured_latency_ms`, and `remeasured_latency_ms` of the second pass."""
    space: Space
    """The space that was profiled, with its classes, channels and resolutions."""
    borders: pd.DataFrame | None = None
    """Costs of borders between precisions, see `BorderTable`; None for a profile of one precision."""
    directory: Path | None = None
    """Folder of profiles that contains the device; None: the default one."""
    shipped: bool = False
    """Whether the profile is part of the package."""
    run_copy: Path | None = None
    """Folder of the profile if it is the copy in a run, which another user may have written."""

    @cached_property
    def latency(self) -> Callable[[Space], SpaceLatency]:
        """The latency model for a space: a function from genomes (n, n_genes) to ms (n,).

        A profile of mixed precision has the latencies of a space with the precision as a choice, and of the
        space without it in fp32.

        Raises ValueError if the space chooses precisions and the profile has only one, or if the latency of a
        block of the space was not measured and cannot be derived; the message names the blocks and the
        command that measures them.
        """
        return lru_cache(maxsize=8)(self._latency)

    @cached_property
    def table(self) -> LatencyTable:
        """The measured blocks; empty if the device has no table."""
        return LatencyTable(
            self.profile.name, self.blocks, self.profile.calibration or IDENTITY, self.borders
        )

    @property
    def is_mixed(self) -> bool:
        """Whether the profile has the latencies of networks with blocks of different precision."""
        return self.profile.key.precision == MIXED

    def subnets_of(self, space: Space) -> Space:
        """The space of the archs in the files of the profile.

        Args:
            space: the profiled space, perhaps for other data, with or without the precision as a choice.
        """
        return with_precision(space, "block") if self.is_mixed else base_space(space)

    def other_data(self, space: Space) -> OtherData:
        """The latencies of the blocks of a space, derived from the measured latencies."""
        precisions = block_precisions(self.profile.key.precision if space is not base_space(space) else FP32)
        parts = [
            other_data(
                base_space(space), self.space, self.table.latency_ms, self._negligible_weights, precision
            )
            for precision in precisions
        ]
        return OtherData(
            {key: block for part in parts for key, block in part.counterparts.items()},
            {key: ms for part in parts for key, ms in part.difference_ms.items()},
            tuple(key for part in parts for key in part.missing),
        )

    def _latency(self, space: Space) -> SpaceLatency:
        if space is not base_space(space) and not self.is_mixed:
            name, precision = self.profile.name, self.profile.key.precision
            raise ValueError(
                f"the device {name!r} is measured in {precision}, a search over precisions needs both: "
                f"measure one with `{mixed_profile_command(space.source, name, self.directory)}`"
            )
        other = self.other_data(space)
        if other.missing:
            message = missing_blocks_message(self.profile.name, space, other.missing)
            raise ValueError(f"{message}; {self._remedy(space)}")
        model_ms, intercept_ms = self._model
        slope = self.profile.calibration.slope if self.profile.calibration else 1.0

        def block_ms(block: Block) -> float:
            key = block_key(without_border(block))
            if key in other.counterparts:
                own, entering = precision_of(block), block.inputs[0].precision
                counterpart = in_precision(
                    other.counterparts[key], own, entering, unrounded=reads_floats(block)
                )
                return model_ms(counterpart) + slope * other.difference_ms[key]
            return model_ms(block)

        return SpaceLatency(self.table, space, BlockTable(space, block_ms, intercept_ms))

    @cached_property
    def _model(self) -> tuple[Callable[[Block], float], float]:
        """The latency of a block inside a network, and the latency of a network without blocks, ms."""
        if self.profile.latency_model == TABLE_MODEL:
            line = self.profile.calibration or IDENTITY
            return lambda block: line.slope * self.table.block_ms(block), line.intercept_ms
        from hw_profiles.latency_models.selection import candidates  # slow to import

        networks = [self.subnets_of(self.space).blocks(arch) for arch in self._fitted_archs]
        models = candidates(self.table.block_ms if self.profile.n_blocks else None, self.is_mixed)
        if self.profile.latency_model not in models:
            raise ValueError(
                f"the latency_model of the profile {self.profile.name!r} must be one of "
                f"{sorted({TABLE_MODEL, *models})}, got {self.profile.latency_model!r}"
            )
        model = models[self.profile.latency_model]().fit(networks, self._fitted_ms)
        return model.block_ms, model.intercept_ms

    @property
    def _fitted_archs(self) -> list[Arch]:
        return [Arch.from_json(text) for text in self.fitted["arch"]]

    @property
    def _fitted_ms(self) -> Latencies:
        return self.fitted["measured_latency_ms"].to_numpy(dtype=np.float64)

    def _negligible_weights(self) -> float:
        """The number of classifier weights whose latency is within the noise of the fastest subnet."""
        space = self.subnets_of(self.space)
        macs = np.array([space.macs(arch) for arch in self._fitted_archs], dtype=np.float64)
        ms_per_weight = CLASSIFIER_COST * fit_affine(macs, self._fitted_ms).slope
        noise = self.profile.noise_floor or self.profile.held_out.mape
        valid = noise > 0 and ms_per_weight > 0  # NaN if nothing was measured twice
        return noise * float(self._fitted_ms.min()) / ms_per_weight if valid else 0.0

    def _remedy(self, space: Space) -> str:
        """The command that measures the missing blocks."""
        name = self.profile.name
        if base_space(space).has_blocks_of(self.space) and self.profile.n_blocks and not self.shipped:
            return f"measure them in addition with `{profile_command(space.source, name, self.directory)}`"
        new_name = THIS_MACHINE if self.shipped else f"{name}-{space.name}"
        command = profile_command(space.source, new_name, self.directory)
        command += f" --precision {MIXED}" if self.is_mixed else ""
        return f"measure the space on a device of yours under another name, such as `{command}`"
