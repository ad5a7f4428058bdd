"""Android devices. The commands are tested against a stand-in for adb; nobody has run them on a phone yet."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Literal

from pydantic import BaseModel

from hw_profiles.connections.base import Description
from hw_profiles.connections.external_tool import TIMEOUT_SECONDS, Tool, run_tool
from hw_profiles.connections.marked import output_there
from hw_profiles.connections.process import ProcessError, Progress, output
from hw_profiles.connections.remote import RemoteRunner
from hw_profiles.measuring import runner
from hw_profiles.measuring.bundle import MODELS, TRIALS, WEIGHTS, read_job
from hw_profiles.measuring.results import Results


class Adb(BaseModel, frozen=True, extra="forbid"):
    """A device that `adb` reaches, with a Python that has numpy and onnxruntime, or with a tool."""

    kind: Literal["adb"] = "adb"
    serial: str | None = None
    """As `adb devices` lists it; None: the only one."""
    python: str = "python3"
    """The interpreter there."""
    tool: Tool | None = None
    """Measures instead of the runner: a program there, such as `onnxruntime_perf_test`."""
    folder: str = "/data/local/tmp/elastic-nas"
    """Where bundles are put there; programs may be run from it."""

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
        return self._measure_by(self.tool, bundle, progress)

    def forget(self, bundle: Path) -> None:
        """See `Connection`."""
        if self.tool is None:
            self._runner().forget(bundle)
        else:
            (bundle / TRIALS).unlink(missing_ok=True)

    def _runner(self) -> RemoteRunner:
        return RemoteRunner(AdbShell(self.serial), self.python, self.folder)

    def _measure_by(self, tool: Tool, bundle: Path, progress: Progress) -> Results:
        shell, job = AdbShell(self.serial), read_job(bundle)
        runner.Bundle(str(bundle)).write_weights()
        folder = PurePosixPath(self.folder) / job.id[:16]
        files = [bundle / model.file for model in job.models] + [bundle / MODELS / WEIGHTS]

        def words(file: str) -> list[str]:
            return tool.words(str(folder / file), posix=True)

        def call(command: Sequence[str]) -> str:
            return output_there(shell.command, shlex.join(command), timeout_seconds=TIMEOUT_SECONDS)

        try:
            shell.push([path for path in files if path.exists()], bundle, folder)
            results = run_tool(tool, bundle, words, call, progress)
            output_there(shell.command, f"rm -rf {shlex.quote(str(folder))}")
        except ProcessError as error:
            raise shell.explain(error) from None
        return results


class AdbShell:
    """One device of adb; see `hw_profiles.connections.remote.Shell`."""

    def __init__(self, serial: str | None) -> None:
        self.adb = ["adb", *(["-s", serial] if serial else [])]

    def command(self, there: str) -> list[str]:
        """See `Shell`."""
        return [*self.adb, "shell", there]

    def push(self, files: Sequence[Path], root: Path, folder: PurePosixPath) -> None:
        """See `Shell`; one call for each folder."""
        for parent, paths in groupby(files, key=lambda path: path.parent):
            there = folder / parent.relative_to(root).as_posix()
            output_there(self.command, f"mkdir -p {shlex.quote(str(there))}")
            output([*self.adb, "push", *map(str, paths), f"{there}/"])

    def explain(self, error: ProcessError) -> ValueError:
        """See `Shell`."""
        for sign, remedy in REMEDIES.items():
            if sign in error.errors:
                return ValueError(f"{remedy} ({error})")
        return ValueError(f"adb: {error}; finished trials are kept: the same command goes on")


REMEDIES = {
    "no devices": "adb finds no device; connect one and allow USB debugging on it",
    "not found": "adb finds no such device or program; `adb devices` lists the devices",
    "unauthorized": "the device does not trust this machine; allow USB debugging on its screen",
    "offline": "the device is offline; finished trials are kept: the same command goes on",
    "more than one device": "adb finds several devices; name one with --adb SERIAL",
}
"""By what adb says: what a user does about it."""
