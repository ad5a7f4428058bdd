"""Runs the device runner on this machine, as a process of its own."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from pydantic import BaseModel

RUNNER = Path(__file__).with_name("runner.py")


class Benchmark(BaseModel, frozen=True):
    """One model alone in a fresh process."""

    latency_ms: float
    """The robust figure that tables are calibrated to (see `hw_profiles.runner`)."""
    min_ms: float
    median_ms: float
    p90_ms: float
    runs: int
    device: dict[str, str | int | None]
    """See `hw_profiles.runner.device`."""


def benchmark(model: Path, threads: int, provider: str) -> Benchmark:
    """Time one ONNX file alone in a fresh process.

    Raises:
        ValueError: the file is missing or no model, or the provider is not available here.
    """
    command = [sys.executable, str(RUNNER), "--benchmark", str(model)]
    command += ["--threads", str(threads), "--provider", provider]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(_last_line(done.stderr, done.returncode))
    return Benchmark.model_validate_json(done.stdout)


def run_bundle(folder: Path, progress: Callable[[int, int], None]) -> None:
    """Do the visits of a bundle that are still missing, and write its results.

    Args:
        folder: the bundle.
        progress: called with the visits done and their total number.

    Raises:
        ValueError: the runner refused or failed.
    """
    command = [sys.executable, str(RUNNER), str(folder)]
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        assert process.stdout is not None
        try:
            for line in process.stdout:
                done, total = map(int, line.split())
                progress(done, total)
        except BaseException:
            process.terminate()  # finished visits are kept
            raise
        if process.wait():
            errors.seek(0)
            raise ValueError(_last_line(errors.read(), process.returncode))


def _last_line(text: str, exit_code: int) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else f"the device runner ended without a message, exit code {exit_code}"
