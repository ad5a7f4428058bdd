"""Looks up a device profile in the same order for every command that works on a run."""

from __future__ import annotations

import logging
from pathlib import Path

from hw_profiles.device import Device
from hw_profiles.store import ProfileStore
from nas.runs.files import PROFILES
from nas.runs.run_dir import RunDir

_log = logging.getLogger("nas")


def find_device(run: RunDir, name: str, profiles: Path | None = None) -> Device:
    """The profile of a device for a run.

    The order of the search is: `profiles` if given, the run's copy, the user's folder, the shipped profiles.

    Args:
        run: the run.
        name: name of the device.
        profiles: a folder of profiles.

    Raises:
        ValueError: there is no such device (the message lists all devices), or its files are damaged.
    """
    device = ProfileStore(profiles, run_copies=run.file(PROFILES)).load(name, str(run.path))
    if profiles is None:
        store = ProfileStore()
        if name in store.names() and store.load(name).profile.created > device.profile.created:
            _log.warning(
                "the run uses its copy of the profile %r; %s has a newer one; use it with --profiles %s",
                name,
                store.directory,
                store.directory,
            )
    return device
