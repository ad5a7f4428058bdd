"""Android devices. The commands are tested with a fake adb, not yet on a real phone."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Literal

from pydantic import BaseModel

from hw_profiles.connections.base import Description
from hw_profiles.connections.external_tool import TIMEOUT_SECONDS, Tool, run_tool
from hw_profiles.connections.marked import remote_output
from hw_profiles.connections.process import ProcessError, Progress, output
from hw_profiles.connections.remote import RemoteRunner
from hw_profiles.measuring.bundle import MODELS, WEIGHTS, read_job
from hw_profiles.measuring.results import Results
from hw_profiles.measuring.runner.bundle import Bundle
from hw_profiles.measuring.runner.bundle_files import TRIALS


class Adb(BaseModel, frozen=True, extra="forbid"):
    """A device that `adb` reaches, with a Python that has numpy and onnxruntime, or with a tool."""

    kind: Literal["adb"] = "adb"
    serial: str | None = None
    """As listed by `adb devices`; None: the only device."""
    python: str = "python3"
    """The Python interpreter on the device."""
    tool: Tool | None = None
    """A program on the device that measures instead of the runner, such as `onnxruntime_perf_test`."""
    folder: str = "/data/local/tmp/elastic-nas"
    """Folder on the device for bundles; programs may be executed there."""

    @property
    def supports_block_timing(self) -> bool:
        """See `Connection`."""
        return self.tool is None

    def describe(self) -> Description | None:
        """See `Connection`."""
        return self._runner().describe() if self.tool is None else None

    def measure(self, bundle: Path, progress: Progress) -> Results:
        """See `Connection`."""
        if self.tool is None:
            return self._runner().measure(bundle, progress)
        return self._measure_with(self.tool, bundle, progress)

    def forget(self, bundle: Path) -> None:
        """See `Connection`."""
        if self.tool is None:
            self._runner().forget(bundle)
        else:
            (bundle / TRIALS).unlink(missing_ok=True)

    def _runner(self) -> RemoteRunner:
        return RemoteRunner(AdbShell(self.serial), self.python, self.folder)

    def _measure_with(self, tool: Tool, bundle: Path, progress: Progress) -> Results:
        shell, job = AdbShell(self.serial), read_job(bundle)
        Bundle(str(bundle)).write_weights()
        folder = PurePosixPath(self.folder) / job.id[:16]
        files = [bundle / model.file for model in job.models] + [bundle / MODELS / WEIGHTS]

        def words(file: str) -> list[str]:
            return tool.words(str(folder / file), posix=True)

        def call(command: Sequence[str]) -> str:
            return remote_output(shell.command, shlex.join(command), timeout_seconds=TIMEOUT_SECONDS)

        try:
            shell.push([path for path in files if path.exists()], bundle, folder)
            results = run_tool(tool, bundle, words, call, progress)
            remote_output(shell.command, f"rm -rf {shlex.quote(str(folder))}")
        except ProcessError as error:
            raise shell.explain(error) from None
        return results


class AdbShell:
    """One device of adb; see `hw_profiles.connections.remote.Shell`."""

    def __init__(self, serial: str | None) -> None:
        self.adb = ["adb", *(["-s", serial] if serial else [])]

    def command(self, remote_command: str) -> list[str]:
        """See `Shell`."""
        return [*self.adb, "shell", remote_command]

    def push(self, files: Sequence[Path], root: Path, folder: PurePosixPath) -> None:
        """See `Shell`; one call for each folder."""
        for parent, paths in groupby(files, key=lambda path: path.parent):
            target = folder / parent.relative_to(root).as_posix()
            remote_output(self.command, f"mkdir -p {shlex.quote(str(target))}")
            output([*self.adb, "push", *map(str, paths), f"{target}/"])

    def explain(self, error: ProcessError) -> ValueError:
        """See `Shell`."""
        for text, remedy in REMEDIES.items():
            if text in error.errors:
                return ValueError(f"{remedy} ({error})")
        return ValueError(f"adb: {error}; finished trials are saved; run the same command to continue")


REMEDIES = {
    "no devices": "adb finds no device; connect one and allow USB debugging on it",
    "not found": "adb finds no such device or program; `adb devices` lists the devices",
    "unauthorized": "the device does not trust this machine; allow USB debugging on its screen",
    "offline": "the device is offline; finished trials are saved; run the same command to continue",
    "more than one device": "adb finds several devices; name one with --adb SERIAL",
}
"""Advice for the user, by a text that occurs in the error message of adb."""
