from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from bundles import TRIALS, ignore, make_bundle
from loopback import Loopback, loopback

from hw_profiles.connections.ssh import Ssh
from hw_profiles.measuring import session
from hw_profiles.measuring.bundle import read_job
from hw_profiles.measuring.runner.bundle_files import TRIALS as JOURNAL


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loopback]:
    with loopback(tmp_path_factory.mktemp("ssh")) as started:
        yield started


def folder_there(device: Loopback, bundle: Path) -> Path:
    return device.folder / "device folder" / read_job(bundle).id[:16]


def test_bundle_is_measured_there_and_nothing_is_left(device: Loopback, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    seen: list[tuple[int, int]] = []
    results = session.measure(device.connection(), bundle, lambda done, total: seen.append((done, total)))
    assert seen[-1] == (TRIALS, TRIALS)
    assert results.device["python"] == ".".join(map(str, sys.version_info[:3]))
    assert list(results.outputs) == ["net"]
    assert not folder_there(device, bundle).exists()


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.slow
def test_device_that_vanishes_goes_on_with_the_same_command(device: Loopback, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle")

    def vanish(done: int, total: int) -> None:
        if done == 5:
            kill_sessions(device)

    with pytest.raises(ValueError, match=r"no connection to .*127\.0\.0\.1; finished trials are saved"):
        session.measure(device.connection(), bundle, vanish)
    kept = (folder_there(device, bundle) / JOURNAL).read_text().splitlines()
    assert len(kept) >= 6  # the outputs of one model and five trials
    seen: list[int] = []
    session.measure(device.connection(), bundle, lambda done, total: seen.append(done))
    assert seen[0] >= 6
    assert seen[-1] == TRIALS


def kill_sessions(device: Loopback) -> None:
    """Cut the connections, as a device without power does."""
    listed = subprocess.run(["ps", "-eo", "pid,ppid"], capture_output=True, text=True, check=True).stdout
    pairs = [tuple(map(int, line.split())) for line in listed.splitlines()[1:]]
    for pid, parent in pairs:
        if parent == device.process.pid:
            os.kill(pid, signal.SIGKILL)


@pytest.mark.slow
def test_forgotten_trials_are_made_again(device: Loopback, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    connection = device.connection()

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        session.measure(connection, bundle, stop)
    connection.forget(bundle)
    assert not (folder_there(device, bundle) / JOURNAL).exists()


def test_description_needs_no_bundle(device: Loopback) -> None:
    description = device.connection().describe()
    assert description["runtime"] == "onnxruntime"
    assert not (device.folder / "device folder" / "runner.py").exists()


def test_shell_that_greets_is_understood(device: Loopback, tmp_path: Path) -> None:
    talking = tmp_path / "talking"
    talking.write_text(f'#!/bin/sh\necho "Welcome to 2 boxes"\nexec "{sys.executable}" "$@"\n')
    talking.chmod(0o755)
    connection = device.connection(python=str(talking))
    assert connection.describe()["runtime"] == "onnxruntime"
    assert session.measure(connection, make_bundle(tmp_path / "bundle"), ignore).outputs


def test_unknown_host_key(device: Loopback) -> None:
    with pytest.raises(ValueError, match=r"the host key of .* is unknown; connect once by hand"):
        device.connection().model_copy(
            update={"options": ("UserKnownHostsFile=/dev/null", "GlobalKnownHostsFile=/dev/null")}
        ).describe()


def test_key_that_is_not_accepted(device: Loopback, tmp_path: Path) -> None:
    other = tmp_path / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(other)], check=True)
    connection = device.connection()
    options = (f"IdentityFile={other}", *connection.options[1:])
    with pytest.raises(ValueError, match="accepts none of your keys; `ssh-copy-id"):
        connection.model_copy(update={"options": options}).describe()


def test_silent_progress() -> None:
    with pytest.raises(ValueError, match=r"no connection to nobody@127\.0\.0\.1.*onnection refused"):
        Ssh.parse("nobody@127.0.0.1:1").describe()


def test_python_without_numpy(device: Loopback, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S -I "$@"\n')  # without the packages of its site
    bare.chmod(0o755)
    with pytest.raises(ValueError, match=r"No module named 'numpy'.* -m pip install numpy onnxruntime"):
        device.connection(python=str(bare)).describe()


def test_python_that_is_not_there(device: Loopback) -> None:
    with pytest.raises(ValueError, match=r"127\.0\.0\.1: .*no_python.*not found"):
        device.connection(python="no_python").describe()


def test_two_profilers_on_one_device_folder(tmp_path: Path) -> None:
    refused = pytest.raises(ValueError, match="another runner is measuring in")
    with session.exclusive_access(tmp_path / "pi"), refused, session.exclusive_access(tmp_path / "pi"):
        pass
    with session.exclusive_access(tmp_path / "pi"):
        pass


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [("pi@box", "pi@box", None), ("box:2222", "box", 2222), ("pi@fe80::1", "pi@fe80::1", None)],
)
def test_targets(text: str, host: str, port: int | None) -> None:
    ssh = Ssh.parse(text)
    assert (ssh.host, ssh.port) == (host, port)


@pytest.mark.parametrize("text", ["", "-oProxyCommand=x", "box:port", ":22"])
def test_what_is_no_target(text: str) -> None:
    with pytest.raises(ValueError, match="--ssh must be user@host or user@host:port"):
        Ssh.parse(text)


def test_profile_keeps_no_secret(device: Loopback) -> None:
    stored = json.loads(device.connection().model_dump_json())
    assert set(stored) == {"kind", "host", "port", "options", "python", "folder"}
