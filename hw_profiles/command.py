"""The command that profiles a device, for messages."""

from __future__ import annotations

import shlex
from pathlib import Path


def profile_command(measured: str, device: str, directory: Path | None = None) -> str:
    """`nas profile` for a space on a device.

    Args:
        measured: a space's name, or the path of a YAML file or of a run.
        device: name of the device.
        directory: folder of profiles; None: the default one.
    """
    where = [] if directory is None else ["--profiles", str(directory)]
    return shlex.join(["nas", "profile", measured, "--device", device, *where])


def mixed_profile_command(measured: str, device: str, directory: Path | None = None) -> str:
    """`nas profile` for a mixed profile, named after the profile of the device in one precision."""
    return f"{profile_command(measured, f'{device}-mixed', directory)} --precision mixed"
