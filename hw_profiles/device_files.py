"""The files of one device: its profile and its tables."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import ValidationError

import search_spaces
from hw_profiles.atomic_write import replace_file
from hw_profiles.csv_tables import read_table
from hw_profiles.device import FITTED_COLUMNS, Device
from hw_profiles.latency_models.borders import COLUMNS as BORDER_COLUMNS
from hw_profiles.latency_models.lookup_table import COLUMNS
from hw_profiles.profile import SCHEMA_VERSION, DeviceProfile
from search_spaces.errors import one_line
from search_spaces.tensors import MIXED

PROFILE, SPACE = "profile.json", "space.yaml"
TABLE, BOUNDARIES, FITTED, HELD_OUT = "table.csv", "boundaries.csv", "fitted.csv", "held_out.csv"
BORDERS = "borders.csv"
"""Table of the costs of borders, in mixed profiles only."""
BUNDLE = "bundle"
"""Folder for the bundle while the device is being measured."""
REQUIRED_COLUMNS: dict[str, tuple[str, ...]] = {
    TABLE: COLUMNS,
    BOUNDARIES: ("channels", "size", "conv_ms", "overhead_ms"),
    FITTED: FITTED_COLUMNS,
    HELD_OUT: ("arch", "predicted_latency_ms", "measured_latency_ms"),
}


def write_device(folder: Path, device: Device) -> None:
    """Write the files of a device. The profile comes last and marks the others as complete."""
    frames = {
        TABLE: device.blocks,
        BOUNDARIES: device.boundaries,
        FITTED: device.fitted,
        HELD_OUT: device.held_out,
    }
    if device.borders is not None:
        frames[BORDERS] = device.borders
    for name, frame in frames.items():
        replace_file(folder / name, frame.to_csv(index=False))
    replace_file(folder / SPACE, device.space.to_yaml())
    replace_file(folder / PROFILE, device.profile.model_dump_json(indent=2) + "\n")


def read_device(folder: Path) -> Device:
    """The device whose files are in a folder.

    Raises:
        ValueError: a file is missing or damaged.
    """
    profile = read_profile(folder)
    frames = {}
    borders = {BORDERS: BORDER_COLUMNS} if profile.key.precision == MIXED else {}
    for name, columns in (REQUIRED_COLUMNS | borders).items():
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
    return Device(
        profile,
        frames[TABLE],
        frames[BOUNDARIES],
        frames[FITTED],
        frames[HELD_OUT],
        search_spaces.get(folder / SPACE),
        frames.get(BORDERS),
        directory=folder.parent,
    )


def read_profile(folder: Path) -> DeviceProfile:
    """The profile in a folder.

    Raises:
        ValueError: the profile is missing, damaged or of another version of the toolkit.
    """
    path = folder / PROFILE
    try:
        content = path.read_bytes()
        _check_version(path, content)
        return DeviceProfile.model_validate_json(content)
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from None
    except ValidationError as error:
        raise ValueError(one_line(error, str(path))) from None


def _check_version(path: Path, content: bytes) -> None:
    try:
        profile = json.loads(content)
    except ValueError:  # validation reports it
        return
    version = profile.get("schema_version", SCHEMA_VERSION) if isinstance(profile, dict) else SCHEMA_VERSION
    if isinstance(version, int) and version != SCHEMA_VERSION:
        remedy = "update the toolkit" if version > SCHEMA_VERSION else "profile the device again"
        raise ValueError(f"{path} must have schema_version {SCHEMA_VERSION}, got {version}; {remedy}")
