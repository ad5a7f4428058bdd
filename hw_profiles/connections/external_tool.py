"""Devices that a tool of theirs measures, on this machine or from it: whole networks only."""

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
from hw_profiles.measuring import runner
from hw_profiles.measuring.bundle import TRIALS, Job, read_job
from hw_profiles.measuring.results import Results

ONNX = "{onnx}"
"""In a command: where the path of the model belongs."""
TIMEOUT_SECONDS = 900
"""Of one call; a tool that compiles the model first takes minutes."""


class Tool(BaseModel, frozen=True, extra="forbid"):
    """A program that is told a model and prints its latency."""

    template: str
    """Its command with `{onnx}` for the model."""
    pattern: LatencyPattern | None = None
    """Where the latency is in what it prints; None: as usual tools print it."""
    retries: int = Field(2, ge=0)
    """How often it is called again when it fails."""

    @field_validator("template")
    @classmethod
    def _names_the_model(cls, template: str) -> str:
        if ONNX not in template:
            raise ValueError(f"the command must have {ONNX} where the model belongs, got {template!r}")
        return template

    def words(self, path: str, *, posix: bool = os.name != "nt") -> list[str]:
        """The command for one model.

        Args:
            path: of the model.
            posix: whether the shell that reads the command takes a backslash as an escape; Windows does not.
        """
        words = shlex.split(self.template, posix=posix)
        if not posix:
            words = [_unquoted(word) for word in words]
        return [word.replace(ONNX, path) for word in words]

    def measure(self, command: Sequence[str], call: Callable[[Sequence[str]], str]) -> float:
        """Latency in ms.

        Args:
            command: for one model.
            call: runs it and returns what it prints.

        Raises:
            ValueError: it failed or printed no latency, each time that it was called.
        """
        reason = ""
        for _ in range(1 + self.retries):
            try:
                text = call(command)
            except ProcessError as error:
                reason = str(error)
                continue
            found = find_latency_ms(text, self.pattern)
            if found is not None:
                return found
            last = (text.strip().splitlines() or ["nothing"])[-1]
            reason = f"there is no latency in what it prints, the last line is {last!r}"
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
    """Do the trials of a bundle with a tool, going on where an earlier call stopped.

    Args:
        tool: it measures.
        bundle: the folder.
        command: for the file of a model, a path inside the bundle.
        call: runs a command and returns what it prints.
        progress: called after each trial.

    Raises:
        ValueError: the tool failed; finished trials are kept.
    """
    job = read_job(bundle)
    opened = runner.Bundle(str(bundle))
    journal = runner.Journal(opened)
    lines = {
        (line["model"], line["index"]): line for line in journal.lines if line.get("tool") == tool.template
    }
    plan = opened.plan()
    for done, (name, r) in enumerate(plan, 1):
        if (name, r) in lines:
            continue
        if name in journal.failed:
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
        journal.add(name, r, figures, time.perf_counter() - start)
        lines[name, r] = journal.lines[-1]
        progress(done, len(plan))
    return _results(job, tool, lines, journal.failed)


def _results(
    job: Job, tool: Tool, lines: Mapping[tuple[str, int], dict[str, Any]], failed: Mapping[str, str]
) -> Results:
    models = [model for model in job.models if model.id not in failed]
    if not models:
        raise ValueError("; ".join(dict.fromkeys(failed.values())))
    trials = {model.id: [lines[model.id, r]["ms"] for r in range(model.n_trials)] for model in models}
    seconds = sum(line["seconds"] for line in lines.values())
    return Results.of_tool(job, trials, tool.words("")[0], seconds, failed)


def _call(command: Sequence[str]) -> str:
    return output(command, timeout_seconds=TIMEOUT_SECONDS)


class Command(BaseModel, frozen=True, extra="forbid"):
    """Any tool on this machine, such as `trtexec --onnx={onnx}`."""

    kind: Literal["command"] = "command"
    supports_block_timing: ClassVar[bool] = False
    tool: Tool

    def describe(self) -> None:
        """See `Connection`."""

    def measure(self, bundle: Path, progress: Progress) -> Results:
        """See `Connection`."""
        runner.Bundle(str(bundle)).write_weights()
        return run_tool(self.tool, bundle, lambda file: self.tool.words(str(bundle / file)), _call, progress)

    def forget(self, bundle: Path) -> None:
        """See `Connection`."""
        (bundle / TRIALS).unlink(missing_ok=True)
