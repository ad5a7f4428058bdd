"""Looks up device profiles: one folder for each device."""

from __future__ import annotations

import os
from dataclasses import replace
from importlib import resources
from pathlib import Path

import platformdirs

from hw_profiles.command import profile_command
from hw_profiles.connections.local import Local
from hw_profiles.connections.offline_bundle import OfflineBundle
from hw_profiles.connections.registry import AnyConnection
from hw_profiles.device import Device
from hw_profiles.device_files import PROFILE, read_device, read_profile, write_device
from hw_profiles.profile import DeviceProfile

SHIPPED = Path(str(resources.files("hw_profiles"))) / "profiles"
"""Profiles that are part of the package."""


def default_directory() -> Path:
    """`$NAS_HOME/profiles`, or `profiles` in the user's data folder.

    Raises:
        ValueError: the user has no home folder.
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
    """Device profiles in a folder, followed by those that are part of the package.

    Args:
        directory: the folder; None: `$NAS_HOME/profiles`, or `profiles` in the user's data folder.
        run_copies: folder of the profiles copied by a run. They come after a `directory` that is given, and
            before the user's data folder.
    """

    def __init__(self, directory: str | Path | None = None, run_copies: Path | None = None) -> None:
        self.given = Path(directory) if directory is not None else None
        """The folder, if it is not the default one."""
        self.directory = self.given or default_directory()
        copies = [] if run_copies is None else [run_copies]
        self._own = [self.directory, *copies] if directory is not None else [*copies, self.directory]

    def names(self) -> list[str]:
        """Names of all devices."""
        return sorted(
            {path.parent.name for folder in self._folders() for path in folder.glob(f"*/{PROFILE}")}
        )

    def folder(self, name: str) -> Path:
        """The folder for the files of a device.

        Raises:
            ValueError: the name is not valid for a folder.
        """
        if not name or name.startswith(".") or Path(name).name != name:
            raise ValueError(
                f"a device must have a name without path separators or leading dot, got {name!r}"
            )
        return self.directory / name

    def load(self, name: str, measured: str = "SPACE") -> Device:
        """A device by name.

        Args:
            name: name of the device.
            measured: the space or run that the device is needed for, for the message.

        Raises:
            ValueError: there is no such device (the message lists all), or its files are damaged.
        """
        folder = self._find(name, measured)
        device = read_device(folder)
        if folder.parent in (self.directory, SHIPPED):
            return replace(device, directory=self.given, shipped=folder.parent == SHIPPED)
        return replace(device, run_copy=folder)

    def profiles(self) -> list[DeviceProfile]:
        """The profiles of all devices, by name.

        Raises:
            ValueError: the files of one are damaged.
        """
        return [read_profile(self._find(name)) for name in self.names()]

    def save(self, device: Device) -> Path:
        """Write the files of a device; returns their folder."""
        folder = self.folder(device.profile.name)
        write_device(folder, device)
        return folder

    def _folders(self) -> list[Path]:
        return [*self._own, SHIPPED]

    def _find(self, name: str, measured: str = "SPACE") -> Path:
        self.folder(name)  # validates the name
        for folder in self._folders():
            if (folder / name / PROFILE).is_file():
                return folder / name
        names = ", ".join(self.names()) or "none"
        raise ValueError(
            f"no profile of the device {name!r} in {self.directory} (known: {names}); "
            f"measure it on this machine with `{profile_command(measured, name, self.given)}`"
        )


def trusted_connection(device: Device) -> AnyConnection:
    """The connection in the profile of a device.

    The copy of a profile in a run must not start a program that is not in the user's own profile.

    Raises:
        ValueError: the profile is a copy in a run, and the user has no profile with the same connection.
    """
    connection = device.profile.connection
    if device.run_copy is None or isinstance(connection, (Local, OfflineBundle)):
        return connection
    name, own = device.profile.name, ProfileStore()
    if name not in own.names() or own.load(name).profile.connection != connection:
        raise ValueError(
            f"the run's copy of the profile {name!r} starts programs ({connection.kind}), and none of your "
            f"own profiles does; if you trust the run, copy {device.run_copy} to {own.directory}"
        )
    return connection
