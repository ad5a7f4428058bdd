"""Training checkpoints on disk. Loading a checkpoint never executes code from the file."""

from __future__ import annotations

import io
import logging
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hw_profiles.atomic_write import replace_file
from nas.runs.files import CHECKPOINTS, SUPERNET
from nas.runs.run_dir import RunDir
from nas.runs.weights import check_weights, trained_weights

SCHEMA_VERSION = 1
_log = logging.getLogger("nas")


def newest_weights(run: RunDir) -> dict[str, Tensor]:
    """The weights of a trained run, or of the newest checkpoint of an unfinished run.

    Raises:
        ValueError: the run has no weights yet, or the file is damaged.
    """
    if run.has(SUPERNET):
        return trained_weights(run)
    checkpoints = Checkpoints(run).paths()
    if not checkpoints:
        raise ValueError(f"the run {run.path} has neither trained weights nor a checkpoint yet")
    weights: dict[str, Tensor] = load_state(checkpoints[0])["supernet"]
    return weights


class Checkpoints:
    """The last checkpoints of a run.

    Args:
        run: the run.
        keep: number of checkpoints on disk; with more than one, an older one replaces a damaged file.
    """

    def __init__(self, run: RunDir, keep: int = 2) -> None:
        self.folder = run.file(CHECKPOINTS)
        self.keep = keep

    def paths(self) -> list[Path]:
        """The checkpoints on disk, newest first."""
        return sorted(self.folder.glob("step_*.pt"), reverse=True)

    def steps(self) -> list[int]:
        """Numbers of steps of the checkpoints, newest first."""
        return [int(path.stem.removeprefix("step_")) for path in self.paths()]

    def save(self, state: Mapping[str, Any], step: int) -> None:
        """Write the state after `step` steps atomically, then delete the oldest checkpoints."""
        buffer = io.BytesIO()
        torch.save({"schema_version": SCHEMA_VERSION, "step": step, **state}, buffer)
        replace_file(self.folder / f"step_{step:09d}.pt", buffer.getvalue())
        for path in self.paths()[self.keep :]:
            path.unlink(missing_ok=True)

    def load(self, current: Mapping[str, Any]) -> dict[str, Any] | None:
        """The newest usable state, or None if there is no checkpoint.

        Args:
            current: a state of the same training, whose keys and weights a checkpoint must have.

        Raises:
            ValueError: there are checkpoints, but all are damaged or do not match.
        """
        problems = []
        for path in self.paths():
            try:
                state = load_state(path)
                _check_state(state, current, str(path))
            except ValueError as error:
                _log.warning("%s", error)
                problems.append(str(error))
            else:
                return state
        if problems:
            raise ValueError(f"no checkpoint can be used, start again with another --out: {problems[0]}")
        return None


def _check_state(state: Mapping[str, Any], current: Mapping[str, Any], source: str) -> None:
    missing = ({"schema_version", "step"} | current.keys()) - state.keys()
    if missing:
        raise ValueError(f"{source} is not a training checkpoint: it has no {', '.join(sorted(missing))}")
    if state["schema_version"] != SCHEMA_VERSION:
        raise ValueError(
            f"{source} must have schema_version {SCHEMA_VERSION}, got {state['schema_version']}; "
            f"resume with the version of the toolkit that wrote it"
        )
    check_weights(state["supernet"], current["supernet"], source)


def load_state(path: Path) -> dict[str, Any]:
    """Load a file written by `torch.save`, without executing code from it.

    Raises:
        ValueError: the file is truncated, is not a file of `torch.save`, or has objects other than tensors
            and plain values.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).split("\n")[0]
        raise ValueError(
            f"{path} is not a checkpoint, or it contains objects other than tensors and plain values, "
            f"which could execute code: {reason:.200}"
        ) from None
    except Exception as error:  # for a damaged file, torch raises errors of many types
        reason = str(error).split("\n")[0]
        raise ValueError(f"{path} is truncated or not a checkpoint: {reason:.200}") from None
    if not isinstance(state, dict):
        raise ValueError(f"{path} must contain a dict, got {type(state).__name__}")
    return state
