"""Where device profiles lie: one folder for each device."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from importlib import resources
from pathlib import Path

import numpy as np
import pandas as pd
import platformdirs
from pydantic import ValidationError

import search_spaces
from hw_profiles.atomic_write import replace_file
from hw_profiles.command import profile_command
from hw_profiles.connections.local import Local
from hw_profiles.connections.offline_bundle import OfflineBundle
from hw_profiles.connections.registry import AnyConnection
from hw_profiles.csv_tables import read_table
from hw_profiles.latency_models.base import TABLE as TABLE_MODEL
from hw_profiles.latency_models.lookup_table import COLUMNS, LatencyTable, SpaceLatency, lacking
from hw_profiles.latency_models.other_data import OtherData, other_data
from hw_profiles.latency_models.prediction_error import Latencies
from hw_profiles.latency_models.robust_regression import Affine, fit_affine
from hw_profiles.profile import SCHEMA_VERSION, DeviceProfile
from search_spaces import Arch, Block, BlockTable, Space, block_key
from search_spaces.errors import one_line

PROFILE = "profile.json"
TABLE, BOUNDARIES, FITTED, HELD_OUT = "table.csv", "boundaries.csv", "fitted.csv", "held_out.csv"
FITTED_COLUMNS = ("arch", "measured_latency_ms")
READ_COLUMNS = {
    TABLE: COLUMNS,
    BOUNDARIES: ("channels", "size", "conv_ms", "overhead_ms"),
    FITTED: FITTED_COLUMNS,
    HELD_OUT: ("arch", "predicted_latency_ms", "measured_latency_ms"),
}
"""Columns that each table of a profile must have."""
NO_CALIBRATION = Affine(slope=1.0, intercept_ms=0.0)
BUNDLE = "bundle"
"""Inside a device's folder while it is being measured."""
SPACE = "space.yaml"
CLASSIFIER_COST = 4.0
"""Time of a weight of a classifier / time of a multiply-accumulate in a whole network, at most: such a weight
is read to be used once."""
THIS_MACHINE = "this-machine"
"""Name that is suggested for this machine's profile."""
SHIPPED = Path(str(resources.files("hw_profiles"))) / "profiles"
"""Profiles that come with the package."""


@dataclass(frozen=True)
class Device:
    """A measured device."""

    profile: DeviceProfile
    blocks: pd.DataFrame
    """See `LatencyTable`."""
    boundaries: pd.DataFrame
    """What was subtracted at the blocks' boundaries: `channels`, `size`, `conv_ms`, `overhead_ms`."""
    fitted: pd.DataFrame
    """The whole subnets that the latency model is fitted to: `arch` (JSON), `measured_latency_ms`. A model is
    never stored but fitted again, with the same result."""
    held_out: pd.DataFrame
    """The subnets behind the profile's errors: `arch_id`, `arch` (JSON), `macs`, `predicted_latency_ms`,
    `measured_latency_ms`, and `remeasured_latency_ms` of the second pass."""
    space: Space
    """The space that was profiled, with its classes, channels and resolutions."""
    directory: Path | None = None
    """Folder of profiles where the device is found; None: the default one."""
    shipped: bool = False
    """Whether the profile comes with the package."""
    run_copy: Path | None = None
    """Folder of the profile where it is a run's copy, which somebody else may have written."""

    @property
    def connection(self) -> AnyConnection:
        """How the device is reached.

        A run's copy of a profile never starts a program that the user's own profile does not name.

        Raises:
            ValueError: the profile is a run's copy, and the user has no profile with the same connection.
        """
        asked = self.profile.connection
        if self.run_copy is None or isinstance(asked, (Local, OfflineBundle)):
            return asked
        name, own = self.profile.name, ProfileStore()
        if name not in own.names() or own.load(name).profile.connection != asked:
            raise ValueError(
                f"the run's copy of the profile {name!r} starts programs ({asked.kind}), which your own "
                f"profiles do not: if you trust it, copy {self.run_copy} to {own.directory}"
            )
        return asked

    @cached_property
    def latency(self) -> Callable[[Space], SpaceLatency]:
        """The device's latency model laid out for a space: from genomes (n, n_genes) to ms (n,).

        Raises ValueError where a block of the space is neither measured nor follows from what was measured;
        the message names the blocks and the command that measures them.
        """
        return lru_cache(maxsize=8)(self._latency)

    @cached_property
    def table(self) -> LatencyTable:
        """Measured blocks; empty where the device has no table."""
        return LatencyTable(self.profile.name, self.blocks, self.profile.calibration or NO_CALIBRATION)

    def other_data(self, space: Space) -> OtherData:
        """How the blocks of a space follow from those that were measured."""
        return other_data(space, self.space, self.table.latency_ms, self._negligible_weights)

    def _latency(self, space: Space) -> SpaceLatency:
        other = self.other_data(space)
        if other.lacking:
            raise ValueError(f"{lacking(self.profile.name, space, other.lacking)}; {self._remedy(space)}")
        block_ms, offset = self._model
        slope = self.profile.calibration.slope if self.profile.calibration else 1.0

        def of(block: Block) -> float:
            key = block_key(block)
            if key in other.counterparts:
                return block_ms(other.counterparts[key]) + slope * other.difference_ms[key]
            return block_ms(block)

        return SpaceLatency(self.table, space, BlockTable(space, of, offset))

    @cached_property
    def _model(self) -> tuple[Callable[[Block], float], float]:
        """What a block adds to a network, and what every network takes beside its blocks, ms."""
        if self.profile.latency_model == TABLE_MODEL:
            line = self.profile.calibration or NO_CALIBRATION
            return lambda block: line.slope * self.table.raw_ms(block), line.intercept_ms
        from hw_profiles.latency_models.selection import (
            candidates,  # slow to import, and a table needs none of it
        )

        networks = [self.space.blocks(arch) for arch in self._fitted_archs]
        made = candidates(self.table.raw_ms if self.profile.n_blocks else None)
        if self.profile.latency_model not in made:
            raise ValueError(
                f"the latency_model of the profile {self.profile.name!r} must be one of "
                f"{sorted({TABLE_MODEL, *made})}, got {self.profile.latency_model!r}"
            )
        model = made[self.profile.latency_model]().fit(networks, self._fitted_ms)
        return model.block_ms, model.intercept_ms

    @property
    def _fitted_archs(self) -> list[Arch]:
        return [Arch.from_json(text) for text in self.fitted["arch"]]

    @property
    def _fitted_ms(self) -> Latencies:
        return self.fitted["measured_latency_ms"].to_numpy(dtype=np.float64)

    def _negligible_weights(self) -> float:
        """By how many weights a classifier may differ before measuring the fastest subnet again shows it."""
        macs = np.array([self.space.macs(arch) for arch in self._fitted_archs], dtype=np.float64)
        ms_per_weight = CLASSIFIER_COST * fit_affine(macs, self._fitted_ms).slope
        noise = self.profile.noise_floor or self.profile.held_out.mape
        known = noise > 0 and ms_per_weight > 0  # NaN: nothing was measured twice
        return noise * float(self._fitted_ms.min()) / ms_per_weight if known else 0.0

    def _remedy(self, space: Space) -> str:
        """The command that measures what is lacking."""
        name = self.profile.name
        if space.same_but_for_data(self.space) and self.profile.n_blocks and not self.shipped:
            return f"measure them in addition with `{profile_command(space.source, name, self.directory)}`"
        other = THIS_MACHINE if self.shipped else f"{name}-{space.name}"
        command = profile_command(space.source, other, self.directory)
        return f"measure the space on a device of yours under another name, such as `{command}`"


def default_directory() -> Path:
    """`$NAS_HOME/profiles`, or `profiles` in the user's data folder.

    Raises:
        ValueError: the system knows no home folder of this user.
    """
    try:
        home = os.environ.get("NAS_HOME") or platformdirs.user_data_dir("elastic-nas")
    except RuntimeError:
        raise ValueError(
            "this user has no home folder: set NAS_HOME to a folder for device profiles, "
            "or give --profiles DIR"
        ) from None
    return Path(home) / "profiles"


class ProfileStore:
    """Device profiles in a folder, before those that are shipped with the package.

    Args:
        directory: the folder; None: `$NAS_HOME/profiles`, or `profiles` in the user's data folder.
        run_copies: the profiles that a run has copied. They come after a `directory` that is given, and
            before the user's data folder.
    """

    def __init__(self, directory: str | Path | None = None, run_copies: Path | None = None) -> None:
        self.asked = Path(directory) if directory is not None else None
        """The folder where it is not the default one."""
        self.directory = self.asked or default_directory()
        copies = [] if run_copies is None else [run_copies]
        self._own = [self.directory, *copies] if directory is not None else [*copies, self.directory]

    def names(self) -> list[str]:
        """Names of the devices that are known."""
        found = {path.parent.name for folder in self._folders() for path in folder.glob(f"*/{PROFILE}")}
        return sorted(found)

    def folder(self, name: str) -> Path:
        """Where a device's files are written.

        Raises:
            ValueError: the name cannot be that of a folder.
        """
        if not name or name.startswith(".") or Path(name).name != name:
            raise ValueError(
                f"a device must have a name without path separators or leading dot, got {name!r}"
            )
        return self.directory / name

    def load(self, name: str, measured: str = "SPACE") -> Device:
        """A device by name.

        Args:
            name: of the device.
            measured: the space or run that the device is wanted for, which the message names.

        Raises:
            ValueError: no such device (lists those known), or its files are damaged.
        """
        folder = self._find(name, measured)
        device = read_device(folder)
        if folder.parent in (self.directory, SHIPPED):
            return replace(device, directory=self.asked, shipped=folder.parent == SHIPPED)
        return replace(device, run_copy=folder)

    def profiles(self) -> list[DeviceProfile]:
        """The profiles of all devices, by name.

        Raises:
            ValueError: the files of one are damaged.
        """
        return [_read_profile(self._find(name)) for name in self.names()]

    def save(self, device: Device) -> Path:
        """Write a device's files; returns their folder."""
        folder = self.folder(device.profile.name)
        write_device(folder, device)
        return folder

    def _folders(self) -> list[Path]:
        return [*self._own, SHIPPED]

    def _find(self, name: str, measured: str = "SPACE") -> Path:
        self.folder(name)  # refuses what is no name
        for folder in self._folders():
            if (folder / name / PROFILE).is_file():
                return folder / name
        known = ", ".join(self.names()) or "none"
        raise ValueError(
            f"no profile of the device {name!r} in {self.directory} (known: {known}); "
            f"measure it on this machine with `{profile_command(measured, name, self.asked)}`"
        )


def write_device(folder: Path, device: Device) -> None:
    """Write a device's files into `folder`; the profile last, for it marks the others as whole."""
    frames = {
        TABLE: device.blocks,
        BOUNDARIES: device.boundaries,
        FITTED: device.fitted,
        HELD_OUT: device.held_out,
    }
    for name, frame in frames.items():
        replace_file(folder / name, frame.to_csv(index=False))
    replace_file(folder / SPACE, device.space.to_yaml())
    replace_file(folder / PROFILE, device.profile.model_dump_json(indent=2) + "\n")


def read_device(folder: Path) -> Device:
    """The device whose files are in `folder`.

    Raises:
        ValueError: a file is missing or damaged.
    """
    profile = _read_profile(folder)
    frames = {}
    for name, columns in READ_COLUMNS.items():
        try:
            frames[name] = read_table(folder / name, columns).reset_index(drop=True)
        except OSError as error:
            raise ValueError(f"cannot read {folder / name}: {error.strerror}") from None
    for name, n_rows in ((TABLE, profile.n_blocks), (FITTED, profile.n_calibration)):
        if len(frames[name]) != n_rows:
            raise ValueError(
                f"{folder / name} must have {n_rows} rows, got {len(frames[name])}; "
                f"remove the folder and measure again"
            )
    space = search_spaces.get(folder / SPACE)
    return Device(
        profile,
        frames[TABLE],
        frames[BOUNDARIES],
        frames[FITTED],
        frames[HELD_OUT],
        space,
        directory=folder.parent,
    )


def _read_profile(folder: Path) -> DeviceProfile:
    try:
        profile = DeviceProfile.model_validate_json((folder / PROFILE).read_bytes())
    except OSError as error:
        raise ValueError(f"cannot read {folder / PROFILE}: {error.strerror}") from None
    except ValidationError as error:
        raise ValueError(one_line(error, str(folder / PROFILE))) from None
    found = profile.schema_version
    if found != SCHEMA_VERSION:
        remedy = "update the toolkit" if found > SCHEMA_VERSION else "profile the device again"
        raise ValueError(
            f"{folder / PROFILE} must have schema_version {SCHEMA_VERSION}, got {found}; {remedy}"
        )
    return profile
