"""Devices with a shell and a Python interpreter: copies the bundle, starts the runner, reads the results."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Protocol

from hw_profiles.atomic_write import replace_file
from hw_profiles.connections.base import Description
from hw_profiles.connections.marked import remote_follow, remote_output
from hw_profiles.connections.process import ProcessError, Progress
from hw_profiles.measuring.bundle import read_job
from hw_profiles.measuring.results import Results, read_results
from hw_profiles.measuring.runner.bundle_files import JOB, RESULTS, TRIALS
from hw_profiles.measuring.runner_file import RUNNER, runner_source

OLD_RUNNER_SECONDS = 30
"""How long a runner may keep working after its connection broke."""


class Shell(Protocol):
    """Runs commands on a device. Its errors name the device and a remedy."""

    def command(self, remote_command: str) -> list[str]:
        """The local command that runs a shell command on the device."""

    def push(self, files: Sequence[Path], root: Path, folder: PurePosixPath) -> None:
        """Copy files to a folder on the device, keeping their paths relative to `root`."""

    def explain(self, error: ProcessError) -> ValueError:
        """The error message for the user."""


class RemoteRunner:
    """The device runner on a device with a shell.

    Args:
        shell: runs commands on the device.
        python: the Python interpreter on the device, with numpy and onnxruntime.
        folder: folder on the device for bundles.
    """

    def __init__(self, shell: Shell, python: str, folder: str) -> None:
        self.shell, self.python, self.root = shell, python, PurePosixPath(folder)

    def describe(self) -> Description:
        """The description of the device; nothing is written there.

        Raises:
            ValueError: the device cannot be reached, or lacks numpy or onnxruntime.
        """
        text = self._run(f"{shlex.quote(self.python)} - --describe", stdin=runner_source().encode())
        description: Description = json.loads(text.splitlines()[-1])  # skip messages of the interpreter
        return description

    def measure(self, bundle: Path, progress: Progress) -> Results:
        """See `Connection`. The folder on the device is removed when its results have been read."""
        job, folder = read_job(bundle), self._folder(bundle)
        self._push(bundle, folder)
        runner = shlex.quote(str(folder / RUNNER))
        work = f"{shlex.quote(self.python)} {runner} --wait {OLD_RUNNER_SECONDS}"
        try:
            remote_follow(self.shell.command, work, progress)
        except ProcessError as error:
            raise self.shell.explain(error) from None
        replace_file(bundle / RESULTS, self._run(f"cat {shlex.quote(str(folder / RESULTS))}"))
        results = read_results(bundle / RESULTS, job)
        self._run(f"rm -rf {shlex.quote(str(folder))}")
        return results

    def forget(self, bundle: Path) -> None:
        """See `Connection`."""
        self._run(f"rm -f {shlex.quote(str(self._folder(bundle) / TRIALS))}")

    def _folder(self, bundle: Path) -> PurePosixPath:
        return self.root / read_job(bundle).id[:16]

    def _push(self, bundle: Path, folder: PurePosixPath) -> None:
        """Copy the bundle unless it is there. The job comes last and marks the bundle as complete."""
        job = bundle / JOB
        quoted = shlex.quote(str(folder / JOB))
        if self._run(f"cat {quoted} 2>/dev/null || true") == job.read_text(encoding="utf-8"):
            return
        self._run(f"mkdir -p {shlex.quote(str(folder))}")
        models = read_job(bundle).models
        names = dict.fromkeys(name for model in models for name in (model.file, model.images) if name)
        try:
            self.shell.push([bundle / name for name in [*names, RUNNER]], bundle, folder)
            self.shell.push([job], bundle, folder)
        except ProcessError as error:
            raise self.shell.explain(error) from None

    def _run(self, remote_command: str, stdin: bytes = b"") -> str:
        try:
            return remote_output(self.shell.command, remote_command, stdin=stdin)
        except ProcessError as error:
            raise self.shell.explain(error) from None
