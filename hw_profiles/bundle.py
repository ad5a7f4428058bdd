"""The folder that travels to a device: graphs and a job. `hw_profiles.runner` adds the results."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from hw_profiles.files import replace_file
from search_spaces.errors import one_line

SCHEMA_VERSION = 1
JOB, RESULTS = "job.json", "results.json"
_MODELS = "models"


@dataclass(frozen=True, slots=True)
class BundledModel:
    """A graph to be timed."""

    id: str
    onnx: bytes
    rounds: int
    """How often it is visited."""
    alone: bool = False
    """Each visit in a fresh process, as `nas benchmark` does, instead of in the runner's."""

    def entry(self) -> dict[str, Any]:
        """Its line in the job."""
        return {
            "id": self.id,
            "file": f"{_MODELS}/{self.id}.onnx",
            "rounds": self.rounds,
            "alone": self.alone,
        }


class Results(BaseModel, frozen=True):
    """`results.json`: what the runner measured."""

    schema_version: int
    bundle: str
    device: dict[str, str | int | None]
    """See `hw_profiles.runner.device`."""
    seconds: float
    visits_ms: dict[str, list[float]]
    """Of each model, by round."""
    latency_ms: dict[str, float]
    """Of each model, the robust figure over its visits."""
    sentinel_drift: float
    split_half_spearman: float


def write_bundle(
    folder: Path, models: Sequence[BundledModel], *, sentinel: str, threads: int, provider: str, seed: int
) -> None:
    """Write a bundle; one that is there already and equal is left alone with the visits it has.

    Args:
        folder: where; an unequal bundle in it is removed first.
        models: the graphs to be timed.
        sentinel: id of the one that shows how steady the device is.
        threads: threads of one operator.
        provider: ONNX Runtime's execution provider.
        seed: decides the order of visits.
    """
    job = {
        "schema_version": SCHEMA_VERSION,
        "threads": threads,
        "provider": provider,
        "seed": seed,
        "sentinel": sentinel,
        "models": [model.entry() for model in models],
    }
    digest = hashlib.sha256(json.dumps(job).encode())
    for model in models:
        digest.update(model.onnx)
    text = json.dumps(job | {"id": digest.hexdigest()}, indent=1)
    if (folder / JOB).is_file() and (folder / JOB).read_text() == text:
        return
    shutil.rmtree(folder, ignore_errors=True)
    for model in models:
        path = folder / model.entry()["file"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(model.onnx)
    replace_file(folder / JOB, text)  # last: it marks the bundle as whole


def read_results(folder: Path) -> Results:
    """The results of a bundle.

    Raises:
        ValueError: they are missing, truncated, or of another bundle.
    """
    path = folder / RESULTS
    try:
        results = Results.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}; run the bundle's runner again") from None
    except ValidationError as error:
        raise ValueError(one_line(error, str(path))) from None
    if results.bundle != json.loads((folder / JOB).read_text())["id"]:
        raise ValueError(f"{path} holds the results of another bundle")
    return results
