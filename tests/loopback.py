"""An sshd on this machine, with temporary keys."""

from __future__ import annotations

import getpass
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from hw_profiles.connections.ssh import Ssh

SSHD = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")


@dataclass
class Loopback:
    """An sshd that accepts the key of the test."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes]

    def connection(self, *options: str, python: str = sys.executable) -> Ssh:
        """A connection with the key of the test and a known host key."""
        all_options = (
            f"IdentityFile={self.folder / 'key'}",
            "IdentitiesOnly=yes",
            f"UserKnownHostsFile={self.folder / 'known_hosts'}",
            *options,
        )
        target = f"{getpass.getuser()}@127.0.0.1:{self.port}"
        ssh = Ssh.parse(target, all_options, python)
        return ssh.model_copy(update={"folder": str(self.folder / "device folder")})


@contextmanager
def loopback(folder: Path) -> Iterator[Loopback]:
    """Start an sshd as the current user; the test is skipped if sshd is not installed."""
    if SSHD is None:
        pytest.skip("no sshd on this machine")
    for name in ("key", "host_key"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run(command, check=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    (folder / "authorized").write_text((folder / "key.pub").read_text())
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {(folder / 'host_key.pub').read_text()}")
    (folder / "config").write_text(
        f"ListenAddress 127.0.0.1\nPort {port}\nHostKey {folder / 'host_key'}\nPidFile none\n"
        f"AuthorizedKeysFile {folder / 'authorized'}\nStrictModes no\nUsePAM no\nPasswordAuthentication no\n"
    )
    with subprocess.Popen([SSHD, "-D", "-e", "-f", folder / "config"], stderr=subprocess.PIPE) as process:
        _wait(process, port)
        yield Loopback(folder, port, process)
        process.terminate()


def _wait(process: subprocess.Popen[bytes], port: int) -> None:
    for _ in range(100):
        if process.poll() is not None:
            assert process.stderr is not None
            pytest.skip(f"sshd does not start here: {process.stderr.read().decode().strip()}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    pytest.skip("sshd does not listen")
