"""Devices that are reached over ssh, such as a Raspberry Pi."""

from __future__ import annotations

import io
import os
import shlex
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import ClassVar, Literal, Self

from pydantic import BaseModel

from hw_profiles.connections.base import Description
from hw_profiles.connections.marked import remote_output
from hw_profiles.connections.process import ProcessError, Progress
from hw_profiles.connections.remote import RemoteRunner
from hw_profiles.measuring.results import Results

NO_CONNECTION = 255
"""Exit code of errors of ssh itself; any other code is the exit code of the remote command."""


class Ssh(BaseModel, frozen=True, extra="forbid"):
    """The system's `ssh` without prompts: keys and host keys must be set up beforehand."""

    kind: Literal["ssh"] = "ssh"
    supports_block_timing: ClassVar[bool] = True
    host: str
    """`user@host` or a host of the user's ssh configuration."""
    port: int | None = None
    options: tuple[str, ...] = ()
    """Options of `ssh -o`, such as `IdentityFile=~/.ssh/pi`."""
    python: str = "python3"
    """The Python interpreter on the device."""
    folder: str = ".cache/elastic-nas"
    """Folder on the device for bundles; relative to the home folder."""

    @classmethod
    def parse(cls, target: str, options: Sequence[str] = (), python: str | None = None) -> Self:
        """Parse `user@host[:port]`.

        Raises:
            ValueError: the text has another form.
        """
        host, colon, port = target.rpartition(":") if target.count(":") == 1 else (target, "", "")
        if not host or host.startswith("-") or (colon and not port.isdecimal()):
            raise ValueError(f"--ssh must be user@host or user@host:port, got {target!r}")
        return cls(
            host=host,
            port=int(port) if port else None,
            options=tuple(options),
            **({"python": python} if python else {}),
        )

    def describe(self) -> Description:
        """See `Connection`."""
        with self._runner() as runner:
            return runner.describe()

    def measure(self, bundle: Path, progress: Progress) -> Results:
        """See `Connection`."""
        with self._runner() as runner:
            return runner.measure(bundle, progress)

    def forget(self, bundle: Path) -> None:
        """See `Connection`."""
        with self._runner() as runner:
            runner.forget(bundle)

    @contextmanager
    def _runner(self) -> Iterator[RemoteRunner]:
        """The runner over one ssh connection that all commands share."""
        control = tempfile.mkdtemp(prefix="nas-")  # short: the path of a socket is limited to 104 characters
        shell = SshShell(self, Path(control) / "s")
        try:
            yield RemoteRunner(shell, self.python, self.folder)
        finally:
            shell.close()
            shutil.rmtree(control, ignore_errors=True)


class SshShell:
    """One ssh connection; see `hw_profiles.connections.remote.Shell`."""

    def __init__(self, target: Ssh, control: Path) -> None:
        self.target = target
        self.ssh = ["ssh", "-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10"]
        self.ssh += ["-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=3"]
        self.shared = os.name != "nt"  # OpenSSH for Windows cannot share a connection
        if self.shared:
            self.ssh += [
                "-o",
                "ControlMaster=auto",
                "-o",
                f"ControlPath={control}",
                "-o",
                "ControlPersist=60",
            ]
        for option in target.options:
            self.ssh += ["-o", option]
        if target.port is not None:
            self.ssh += ["-p", str(target.port)]

    def command(self, remote_command: str) -> list[str]:
        """See `Shell`."""
        return [*self.ssh, self.target.host, "--", remote_command]

    def push(self, files: Sequence[Path], root: Path, folder: PurePosixPath) -> None:
        """See `Shell`. One tar stream, because a round trip for each file would take minutes."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=1) as tar:
            for path in files:
                tar.add(path, path.relative_to(root).as_posix())
        remote_output(self.command, f"tar -xzf - -C {shlex.quote(str(folder))}", stdin=packed.getvalue())

    def explain(self, error: ProcessError) -> ValueError:
        """See `Shell`."""
        host = self.target.host
        if error.exit_code != NO_CONNECTION:
            return ValueError(f"{host}: {error}")
        for text, remedy in REMEDIES.items():
            if text in error.errors:
                return ValueError(f"{remedy.format(host=host)} ({error})")
        return ValueError(
            f"no connection to {host}; finished trials are saved; run the same command to continue ({error})"
        )

    def close(self) -> None:
        """Close the shared connection, if any."""
        if not self.shared:
            return
        command = [*self.ssh, "-O", "exit", self.target.host]
        subprocess.run(command, capture_output=True, check=False)


REMEDIES = {
    "REMOTE HOST IDENTIFICATION HAS CHANGED": "the host key of {host} has changed since the last connection; "
    "find out why before you remove the old one with ssh-keygen -R",
    "Host key verification failed": "the host key of {host} is unknown; connect once by hand, "
    "`ssh {host}`, and compare it",
    "Permission denied": "{host} accepts none of your keys; `ssh-copy-id {host}` installs one",
    "Could not resolve hostname": "there is no host {host}",
}
"""Advice for the user, by a text that occurs in the error message of ssh."""
