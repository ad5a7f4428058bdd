"""Devices measured by an external tool that is started on this machine: whole networks only."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, Field, field_validator

from hw_profiles.connections.latency_text import LatencyPattern, find_latency_ms
from hw_profiles.connections.process import ProcessError, Progress, output
from hw_profiles.measuring.bundle import Job, read_job
from hw_profiles.measuring.results import Results
from hw_profiles.measuring.runner.bundle import Bundle
from hw_profiles.measuring.runner.bundle_files import TRIALS

ONNX = "{onnx}"
"""Placeholder in a command for the path of the model."""
TIMEOUT_SECONDS = 900
"""Time limit of one call. A tool that compiles the model first takes minutes."""


class Tool(BaseModel, frozen=True, extra="forbid"):
    """A program that takes the path of a model and prints its latency."""

    template: str
    """The command of the tool, with `{onnx}` in the place of the path of the model."""
    pattern: LatencyPattern | None = None
    """Finds the latency in the output of the tool; None: the formats of common tools."""
    retries: int = Field(2, ge=0)
    """Number of further calls if the tool fails."""

    @field_validator("template")
    @classmethod
    def _names_the_model(cls, template: str) -> str:
        if ONNX not in template:
            raise ValueError(f"the command must contain {ONNX} in the place of the model, got {template!r}")
        return template

    def words(self, path: str, *, posix: bool = os.name != "nt") -> list[str]:
        """The command for one model.

        Args:
            path: path of the model.
            posix: whether a backslash is an escape character; on Windows it is not.
        """
        words = shlex.split(self.template, posix=posix)
        if not posix:
            words = [_unquoted(word) for word in words]
        return [word.replace(ONNX, path) for word in words]

    def measure(self, command: Sequence[str], call: Callable[[Sequence[str]], str]) -> float:
        """Measure the latency of one model in ms.

        Args:
            command: the command for one model.
            call: runs a command and returns its output.

        Raises:
            ValueError: the tool failed or printed no latency in every call.
        """
        reason = ""
        for _ in range(1 + self.retries):
            try:
                text = call(command)
            except ProcessError as error:
                reason = str(error)
                continue
            latency_ms = find_latency_ms(text, self.pattern)
            if latency_ms is not None:
                return latency_ms
            last = (text.strip().splitlines() or ["nothing"])[-1]
            reason = f"there is no latency in its output, the last line is {last!r}"
        raise ValueError(f"`{shlex.join(command)}` failed {1 + self.retries} times: {reason}")


def _unquoted(word: str) -> str:
    quoted = len(word) > 1 and word[0] == word[-1] and word[0] in "\"'"
    return word[1:-1] if quoted else word


def run_tool(
    tool: Tool,
    bundle: Path,
    command: Callable[[str], Sequence[str]],
    call: Callable[[Sequence[str]], str],
    progress: Progress,
) -> Results:
    """Run the trials of a bundle with a tool, continuing an earlier call.

    Args:
        tool: the tool.
        bundle: the folder.
        command: the command for the file of a model, a path inside the bundle.
        call: runs a command and returns its output.
        progress: called after each trial.

    Raises:
        ValueError: the tool failed; finished trials are saved.
    """
    job = read_job(bundle)
    opened = Bundle(str(bundle))
    journal = opened.journal()
    lines = {
        (line["model"], line["index"]): line for line in journal.lines if line.get("tool") == tool.template
    }
    plan = opened.plan()
    for done, (name, index) in enumerate(plan, 1):
        if (name, index) in lines or name in journal.failed:
            continue
        start = time.perf_counter()
        figures: dict[str, Any] = {"tool": tool.template}
        try:
            ms = tool.measure(command(opened.models[name]["file"]), call)
            figures |= {"ms": ms, "speed_probe_ms": 0.0, "throttled": 0}
        except ValueError as error:
            if not job.keep_going:
                raise
            figures["failed"] = str(error)
        journal.add(name, index, figures, time.perf_counter() - start)
        lines[name, index] = journal.lines[-1]
        progress(done, len(plan))
    return _results(job, tool, lines, journal.failed)


def _results(
    job: Job, tool: Tool, lines: Mapping[tuple[str, int], dict[str, Any]], failed: Mapping[str, str]
) -> Results:
    models = [model for model in job.models if model.id not in failed]
    if not models:
        raise ValueError("; ".join(dict.fromkeys(failed.values())))
    trials = {model.id: [lines[model.id, i]["ms"] for i in range(model.n_trials)] for model in models}
    seconds = sum(line["seconds"] for line in lines.values())
    return Results.of_tool(job, trials, tool.words("")[0], seconds, failed)


def _call(command: Sequence[str]) -> str:
    return output(command, timeout_seconds=TIMEOUT_SECONDS)


class Command(BaseModel, frozen=True, extra="forbid"):
    """A tool on this machine, such as `trtexec --onnx={onnx}`."""

    kind: Literal["command"] = "command"
    supports_block_timing: ClassVar[bool] = False
    tool: Tool

    def describe(self) -> None:
        """See `Connection`."""

    def measure(self, bundle: Path, progress: Progress) -> Results:
        """See `Connection`."""
        Bundle(str(bundle)).write_weights()
        return run_tool(self.tool, bundle, lambda file: self.tool.words(str(bundle / file)), _call, progress)

    def forget(self, bundle: Path) -> None:
        """See `Connection`."""
        (bundle / TRIALS).unlink(missing_ok=True)
