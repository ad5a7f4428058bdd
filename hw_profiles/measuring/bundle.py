"""The folder that travels to a device: graphs and a job. `hw_profiles.measuring.runner` adds the results."""

from __future__ import annotations

import hashlib
import io
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

from hw_profiles.atomic_write import replace_file
from hw_profiles.measuring.runner import JOB, LOCK, RESULTS, SCHEMA_VERSION, TRIALS
from hw_profiles.run_settings import RunSettings
from search_spaces.errors import one_line

__all__ = ["JOB", "LOCK", "RESULTS", "SCHEMA_VERSION", "TRIALS"]

RUNNER = Path(__file__).with_name("runner.py")
MODELS, IMAGES = "models", "images"
WEIGHTS = "weights.bin"
"""Beside the models, as ONNX wants it."""


class Trials(NamedTuple):
    """How a network alone is measured to tell its latency once."""

    number: int
    """Fresh processes, spread over the whole time."""
    sessions: int
    """In each process at most."""


LIGHT, HEAVY = Trials(1, 12), Trials(9, 2)
HEAVY_BYTES = 4 * 2**20
"""Weights that do not fit into a core's own cache share the next one with all that runs on the machine: on a
rented server such networks took 1.05 to 1.3 times their least for seconds to minutes, at steady moments by
the runner's gauge. So they are measured more often, and more briefly, and the lower quartile is told.
Difference of two passes drawn from 216 trials there (3 subnets, 3 to 4 ms at 128 pixels), in %:
  trials x sessions    3 x 5   3 x 2   6 x 2   9 x 2   9 x 5
  fastest trial told     4.3     4.4     3.7     3.5     3.0
  lower quartile         4.3     4.4     3.1     2.5     2.7
"""

Images = NDArray[np.float16]
"""As a network reads them, shape (n, channels, size, size)."""


def trials_alone(weight_bytes: int) -> Trials:
    """What it takes to tell the latency of a network alone once."""
    return HEAVY if weight_bytes > HEAVY_BYTES else LIGHT


@dataclass(frozen=True, slots=True)
class BundledModel:
    """A graph to be timed."""

    id: str
    onnx: bytes
    n_trials: int
    """How often it is measured."""
    alone: bool = False
    """Each trial in a fresh process, as `nas benchmark` does, instead of in the runner's."""
    images: str | None = None
    """Name of the images that its outputs are wanted for."""
    sessions: int = LIGHT.sessions
    """How many a trial in a fresh process opens at most."""
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Of its inputs, by name; needed for those that leave dimensions open."""
    label: str | None = None
    """What messages call it."""


class Region(BaseModel, frozen=True):
    """Random constants that the runner writes on the device, see `runner.write_weights`."""

    dtype: str
    scale: float
    offset: int
    """Bytes from the start of the file."""
    count: int


class Weights(BaseModel, frozen=True):
    """The file of constants that the graphs of a bundle share, as the runner makes it."""

    file: str = f"{MODELS}/{WEIGHTS}"
    seed: int
    regions: tuple[Region, ...]


class ModelEntry(BaseModel, frozen=True):
    """A model in the job."""

    id: str
    file: str
    n_trials: int
    alone: bool
    images: str | None
    sessions: int
    shapes: dict[str, tuple[int, ...]]
    label: str | None


class Job(RunSettings, frozen=True):
    """`job.json`: what is to be done, and how networks are run."""

    schema_version: int = SCHEMA_VERSION
    id: str
    """Hash of everything else and of the files."""
    space: str | None
    """The space that the models belong to."""
    seed: int
    """Decides the order of trials."""
    sentinel: str | None
    """Id of the model that shows how steady the device is."""
    energy: bool
    """Measure the energy of models that are timed alone, where the device has a counter."""
    repeats: float
    """Trials at slow moments that are done again, at most, as a share of all trials."""
    best_speed_probe_ms: float | None
    """The fastest time of the gauge in earlier work on the device, see `runner.speed_probe_ms`."""
    keep_going: bool
    """Measure the other models where one fails."""
    weights: Weights | None
    models: tuple[ModelEntry, ...]

    @property
    def trials(self) -> int:
        """Of all models together."""
        return sum(model.n_trials for model in self.models)


@dataclass(frozen=True, slots=True)
class BundleContent:
    """What a bundle is made of."""

    models: list[BundledModel]
    settings: RunSettings
    weights: Weights | None = None
    """None: every graph holds its own."""
    images: Mapping[str, Images] | None = None
    """By name."""
    space: str | None = None
    sentinel: str | None = None
    energy: bool = False
    repeats: float = 1.0
    best_speed_probe_ms: float | None = None
    keep_going: bool = False
    seed: int = 0


def write_bundle(folder: Path, content: BundleContent) -> Job:
    """Write a bundle; an equal one that is there already is left alone with the trials that it has.

    Args:
        folder: where; an unequal bundle in it is removed first.
        content: what it is made of.

    Raises:
        OSError: the folder cannot be written.
    """
    files = {f"{MODELS}/{model.id}.onnx": model.onnx for model in content.models}
    files |= {f"{IMAGES}/{name}.npy": _npy(images) for name, images in (content.images or {}).items()}
    job = Job(
        **content.settings.model_dump(include=set(RunSettings.model_fields)),
        id="",
        space=content.space,
        seed=content.seed,
        sentinel=content.sentinel,
        energy=content.energy,
        repeats=content.repeats,
        best_speed_probe_ms=content.best_speed_probe_ms,
        keep_going=content.keep_going,
        weights=content.weights,
        models=tuple(_entry(model) for model in content.models),
    )
    job = job.model_copy(update={"id": _digest(job, files.values())})
    text = job.model_dump_json(indent=1)
    if (folder / JOB).is_file() and (folder / JOB).read_text(encoding="utf-8") == text:
        return job
    shutil.rmtree(folder, ignore_errors=True)
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    replace_file(folder / JOB, text)  # last: it marks the bundle as whole
    return job


def read_job(folder: Path) -> Job:
    """The job of a bundle.

    Raises:
        ValueError: there is none, or it is damaged.
    """
    try:
        return Job.model_validate_json((folder / JOB).read_bytes())
    except OSError as error:
        raise ValueError(f"cannot read {folder / JOB}: {error.strerror}") from None
    except ValidationError as error:
        raise ValueError(one_line(error, str(folder / JOB))) from None


def _entry(model: BundledModel) -> ModelEntry:
    return ModelEntry(
        id=model.id,
        file=f"{MODELS}/{model.id}.onnx",
        n_trials=model.n_trials,
        alone=model.alone,
        images=f"{IMAGES}/{model.images}.npy" if model.images else None,
        sessions=model.sessions,
        shapes=dict(model.shapes),
        label=model.label,
    )


def _npy(images: Images) -> bytes:
    file = io.BytesIO()
    np.save(file, images, allow_pickle=False)
    return file.getvalue()


def _digest(job: Job, files: Iterable[bytes]) -> str:
    digest = hashlib.sha256(job.model_dump_json().encode())
    for data in files:
        digest.update(data)
    return digest.hexdigest()
