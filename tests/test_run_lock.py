"""One process at a time writes a run."""

import errno
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

import pytest

from nas.runs.files import LOCK
from nas.runs.lock import locked

HOLD = "import sys, nas.runs.lock as l\nwith l.locked(sys.argv[1]): print(flush=True); sys.stdin.read()"


@contextmanager
def holder(run: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that holds the lock of a run."""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", HOLD, str(run)], stdin=pipe, stdout=pipe) as process:
        assert process.stdout
        assert process.stdout.readline()
        try:
            yield process
        finally:
            process.kill()


def nas(*arguments: object) -> tuple[int, str]:
    command = [sys.executable, "-c", "from nas.cli.main import main; main()", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.returncode, done.stderr


@pytest.mark.slow
def test_second_writer_ends_in_one_line_and_a_kill_leaves_no_lock(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        for command in (["search", tmp_path, "--device", "pi"], ["export", tmp_path], ["report", tmp_path]):
            code, error = nas(*command)
            assert code == 2
            assert error.startswith(f"error: the run {tmp_path} is in use by process {process.pid} on ")
            assert f"`-c {tmp_path}`, since 20" in error  # the command, as the process was started
            assert error.count("\n") == 1
        with pytest.raises(ValueError, match=f"process {process.pid} "), locked(tmp_path):
            pass
        code, error = nas("describe", tmp_path)  # reads
        assert "in use" not in error
        process.kill()
        process.wait()
    with locked(tmp_path):
        assert (tmp_path / LOCK).exists()
    assert list(tmp_path.iterdir()) == []


def test_blocks_nest_in_one_thread_and_exclude_others(tmp_path: Path) -> None:
    seen: list[str] = []

    def other_thread() -> None:
        try:
            with locked(tmp_path):
                pass
        except ValueError as error:
            seen.append(str(error))

    with locked(tmp_path):
        with locked(tmp_path / "." / ""):
            pass
        thread = threading.Thread(target=other_thread)
        thread.start()
        thread.join()
        with pytest.raises(subprocess.CalledProcessError):  # the inner block did not release the lock
            subprocess.run([sys.executable, "-c", HOLD, tmp_path], check=True, capture_output=True)
    assert "another thread of this process" in seen[0]


def test_folders_that_stay_empty_are_removed(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "a"
    with locked(run, create=True):
        assert (run / LOCK).exists()
    assert list(tmp_path.iterdir()) == []
    with locked(run, create=True):
        (run / "file").touch()
    assert [path.name for path in run.iterdir()] == ["file"]
    with locked(tmp_path / "missing"):  # made by `create` alone
        pass
    assert not (tmp_path / "missing").exists()


def test_full_disk_names_the_lock_file_and_leaves_no_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class FullDisk(FileIO):
        def write(self, data: object) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdopen", lambda descriptor, mode, buffering: FullDisk(descriptor, mode))
        with pytest.raises(OSError, match=str(tmp_path / LOCK)), locked(tmp_path):
            pass
    with locked(tmp_path):
        assert (tmp_path / LOCK).exists()
