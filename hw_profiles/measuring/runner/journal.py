"""The finished trials of a bundle, one per line of a file, so that a stopped runner can continue."""

from __future__ import annotations

import json
import os
from typing import Any

import onnxruntime

from hw_profiles.measuring.runner.device_description import conditions
from hw_profiles.measuring.runner.errors import RunnerError
from hw_profiles.measuring.runner.speed_probe import STEADY


class Journal:
    """The finished trials of a bundle. Reading stops at the first incomplete or damaged line.

    A trial that was repeated has several lines. A model that failed has a line with the reason. The outputs
    of a model are a line with the index None.

    Args:
        path: the file; it is created if it does not exist.
        bundle_id: id of the bundle.
        best_speed_probe_ms: the fastest speed probe in earlier work on the device, if it is known.

    Raises:
        RunnerError: the trials are of another bundle or of another version of onnxruntime.
    """

    def __init__(self, path: str, bundle_id: str, best_speed_probe_ms: float | None) -> None:
        self.path, self.id = path, bundle_id
        self.lines = _read_lines(path)
        expected = (self.id, onnxruntime.__version__)
        if any((line["bundle"], line["version"]) != expected for line in self.lines):
            raise RunnerError(
                f"{self.path} must contain trials of this bundle and of onnxruntime "
                f"{onnxruntime.__version__} only; remove it to start again"
            )
        self.done = {(line["model"], line["index"]) for line in self.lines}
        self.best_speed_probe_ms = float("inf") if best_speed_probe_ms is None else float(best_speed_probe_ms)
        self.failed: dict[str, str] = {}
        self._best: dict[tuple[str, int], dict[str, Any]] = {}
        for line in self.lines:
            self._register(line)

    @property
    def n_trials(self) -> int:
        """Number of trials so far, repeated ones included."""
        return sum("ms" in line for line in self.lines)

    def trials(self) -> list[dict[str, Any]]:
        """The trials by index; of repeated trials the one at the steadiest moment."""
        return sorted(self._best.values(), key=lambda line: line["index"])

    def slow(self, model: str, index: int) -> bool:
        """Whether the processor was slow in all repeats of a trial, or a CPU quota stopped it."""
        best = self._best[model, index]
        return bool(best["throttled"] or best["speed_probe_ms"] > STEADY * self.best_speed_probe_ms)

    def _register(self, line: dict[str, Any]) -> None:
        if "failed" in line:
            self.failed.setdefault(line["model"], line["failed"])
        if "ms" in line:
            self.best_speed_probe_ms = min(self.best_speed_probe_ms, line["speed_probe_ms"])
            best = self._best.setdefault((line["model"], line["index"]), line)
            if _disturbance(line) < _disturbance(best):
                self._best[line["model"], line["index"]] = line

    def add(self, model: str, index: int | None, measured: dict[str, Any], seconds: float) -> None:
        """Save a finished trial, or with index None the outputs of a model, durably."""
        line = {"bundle": self.id, "version": onnxruntime.__version__, "model": model, "index": index}
        line.update(measured, seconds=seconds, conditions=conditions())
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.lines.append(line)
        self.done.add((model, index))
        self._register(line)


def _read_lines(path: str) -> list[dict[str, Any]]:
    """The complete lines of a file; the rest of the file is removed."""
    lines = []
    size = 0
    with open(path, "a+b") as file:
        file.seek(0)
        for text in file:
            try:
                line = json.loads(text)
            except ValueError:  # the runner was killed, or lost power, while it wrote the line
                break
            if not text.endswith(b"\n"):
                break
            lines.append(line)
            size += len(text)
        file.truncate(size)
    return lines


def _disturbance(line: dict[str, Any]) -> tuple[bool, float]:
    return line["throttled"] > 0, line["speed_probe_ms"]
