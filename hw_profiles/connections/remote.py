"""Devices with a shell and a Python: the bundle goes there, the runner works there, results come back."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Protocol

from hw_profiles.atomic_write import replace_file
from hw_profiles.connections.base import Description
from hw_profiles.connections.marked import follow_there, output_there
from hw_profiles.connections.process import ProcessError, Progress
from hw_profiles.measuring.bundle import JOB, RESULTS, RUNNER, TRIALS, read_job
from hw_profiles.measuring.results import Results, read_results

OLD_RUNNER_SECONDS = 30
"""How long the runner of a connection that broke may take to notice."""


class Shell(Protocol):
    """Reaches a device; every error names the device and what helps."""

    def command(self, there: str) -> list[str]:
        """The command here that runs the shell command `there` on the device."""

    def push(self, files: Sequence[Path], root: Path, folder: PurePosixPath) -> None:
        """Copy files to a folder on the device, keeping their paths relative to `root`."""

    def explain(self, error: ProcessError) -> ValueError:
        """What a failed command means to the user."""


class RemoteRunner:
    """The device runner on a device with a shell.

    Args:
        shell: reaches the device.
        python: the interpreter there, with numpy and onnxruntime.
        folder: where bundles are put there.
    """

    def __init__(self, shell: Shell, python: str, folder: str) -> None:
        self.shell, self.python, self.root = shell, python, PurePosixPath(folder)

    def describe(self) -> Description:
        """What the device is; nothing is left there.

        Raises:
            ValueError: the device cannot be reached, or lacks numpy or onnxruntime.
        """
        told = self._run(f"{shlex.quote(self.python)} - --describe", stdin=RUNNER.read_bytes())
        description: Description = json.loads(told.splitlines()[-1])  # the interpreter may print before
        return description

    def measure(self, bundle: Path, progress: Progress) -> Results:
        """See `Connection`; the folder on the device is removed when its results are here."""
        job, folder = read_job(bundle), self._folder(bundle)
        self._push(bundle, folder)
        runner = shlex.quote(str(folder / RUNNER.name))
        work = f"{shlex.quote(self.python)} {runner} --wait {OLD_RUNNER_SECONDS}"
        try:
            follow_there(self.shell.command, work, progress)
        except ProcessError as error:
            raise self.shell.explain(error) from None
        replace_file(bundle / RESULTS, self._run(f"cat {shlex.quote(str(folder / RESULTS))}"))
        results = read_results(bundle / RESULTS, job)
        self._run(f"rm -rf {shlex.quote(str(folder))}")
        return results

    def forget(self, bundle: Path) -> None:
        """Drop the trials that an earlier call has left."""
        self._run(f"rm -f {shlex.quote(str(self._folder(bundle) / TRIALS))}")

    def _folder(self, bundle: Path) -> PurePosixPath:
        return self.root / read_job(bundle).id[:16]

    def _push(self, bundle: Path, folder: PurePosixPath) -> None:
        """Bring what is not there; the job comes last and marks the others as whole."""
        job = bundle / JOB
        quoted = shlex.quote(str(folder / JOB))
        if self._run(f"cat {quoted} 2>/dev/null || true") == job.read_text(encoding="utf-8"):
            return
        self._run(f"mkdir -p {shlex.quote(str(folder))}")
        models = read_job(bundle).models
        names = dict.fromkeys(name for model in models for name in (model.file, model.images) if name)
        try:
            self.shell.push([bundle / name for name in names], bundle, folder)
            self.shell.push([RUNNER], RUNNER.parent, folder)
            self.shell.push([job], bundle, folder)
        except ProcessError as error:
            raise self.shell.explain(error) from None

    def _run(self, there: str, stdin: bytes = b"") -> str:
        try:
            return output_there(self.shell.command, there, stdin=stdin)
        except ProcessError as error:
            raise self.shell.explain(error) from None
