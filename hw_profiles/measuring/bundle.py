"""The folder that is sent to a device: models, a job and the runner, which adds the results."""

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

from hw_profiles.atomic_write import naming, replace_file
from hw_profiles.measuring.runner.bundle_files import JOB, SCHEMA_VERSION
from hw_profiles.measuring.runner_file import RUNNER, runner_source
from hw_profiles.run_settings import RunSettings
from search_spaces.errors import one_line

MODELS, IMAGES = "models", "images"
WEIGHTS = "weights.bin"
"""File of the shared constants, in the folder of the models, where ONNX expects external data."""


class TrialPlan(NamedTuple):
    """Numbers of trials and sessions for one estimate of the latency of a network alone."""

    n_trials: int
    """Number of trials, each in a fresh process, spread over the whole measurement."""
    n_sessions: int
    """Maximum number of sessions in each process."""


LIGHT, HEAVY = TrialPlan(1, 12), TrialPlan(9, 2)
HEAVY_BYTES = 4 * 2**20
"""Weights larger than the private cache of a core compete for the shared cache with all other processes. On a
rented server such networks took 1.05 to 1.3 times their best latency for seconds to minutes, while the speed
probe was steady. Therefore they get more and shorter trials, and the lower quartile is reported. Difference
between two passes drawn from 216 trials there (3 subnets, 3 to 4 ms at 128 pixels), in %:
  trials x sessions    3 x 5   3 x 2   6 x 2   9 x 2   9 x 5
  fastest trial          4.3     4.4     3.7     3.5     3.0
  lower quartile         4.3     4.4     3.1     2.5     2.7
"""

Images = NDArray[np.float16]
"""Inputs of a network, shape (n, channels, size, size)."""


def alone_plan(weight_bytes: int) -> TrialPlan:
    """The plan for a network with this number of bytes of weights."""
    return HEAVY if weight_bytes > HEAVY_BYTES else LIGHT


class LayerPrecision(BaseModel, frozen=True):
    """The precision that a convolution or matrix product must compute in."""

    names: tuple[str, ...]
    """Names of the node of the layer, and of later nodes that a runtime may fuse with it."""
    integers: bool
    """Whether the layer must compute with integers instead of floating-point numbers."""


@dataclass(frozen=True, slots=True)
class BundledModel:
    """A graph to be timed."""

    id: str
    onnx: bytes
    n_trials: int
    """Number of trials."""
    alone: bool = False
    """Run each trial in a fresh process, as `nas benchmark` does, instead of in the process of the runner."""
    images: str | None = None
    """Name of the images for which the device returns the outputs of the model."""
    sessions: int = LIGHT.n_sessions
    """Number of sessions in a trial in a fresh process, at most."""
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Shapes of inputs by name; required for inputs that leave dimensions open."""
    label: str | None = None
    """Name of the model in messages."""
    layers: tuple[LayerPrecision, ...] = ()
    """Layers whose precision the runner checks one by one."""


class Region(BaseModel, frozen=True):
    """Random constants that the runner generates on the device, see
    `hw_profiles.measuring.runner.weights.write_weights`."""

    dtype: str
    scale: float
    offset: int
    """Bytes from the start of the file."""
    count: int


class Weights(BaseModel, frozen=True):
    """The file of constants that the graphs of a bundle share; the runner writes it."""

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
    layers: tuple[LayerPrecision, ...]


class Job(RunSettings, frozen=True):
    """`job.json`: what the runner measures, and how networks are run."""

    schema_version: int = SCHEMA_VERSION
    id: str
    """Hash of all other fields and of the files."""
    space: str | None
    """The space that the models belong to."""
    seed: int
    """Seed of the order of trials."""
    sentinel: str | None
    """Id of the model that is timed again and again to show how steady the device is."""
    energy: bool
    """Measure the energy of models that are timed alone, if the device has a counter."""
    repeats: float
    """Maximum number of repeated trials (those at slow moments), as a share of all trials."""
    best_speed_probe_ms: float | None
    """The fastest speed probe in earlier work on the device, see
    `hw_profiles.measuring.runner.speed_probe`."""
    keep_going: bool
    """If a model fails, measure the other ones."""
    weights: Weights | None
    models: tuple[ModelEntry, ...]


@dataclass(frozen=True, slots=True)
class BundleContent:
    """The parts of a bundle."""

    models: list[BundledModel]
    settings: RunSettings
    weights: Weights | None = None
    """Constants that the graphs share; None: every graph contains its own."""
    images: Mapping[str, Images] | None = None
    """Images by name."""
    space: str | None = None
    sentinel: str | None = None
    energy: bool = False
    repeats: float = 1.0
    best_speed_probe_ms: float | None = None
    keep_going: bool = False
    seed: int = 0


def write_bundle(folder: Path, content: BundleContent) -> Job:
    """Write a bundle. If the folder holds the same bundle already, its finished trials are kept.

    Args:
        folder: the folder to write to; a different bundle in it is removed first.
        content: the parts of the bundle.

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
    if not holds_job(folder, text):
        shutil.rmtree(folder, ignore_errors=True)
        for name, data in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with naming(path):
                path.write_bytes(data)
    replace_file(folder / RUNNER, runner_source())
    replace_file(folder / JOB, text)  # last: it marks the bundle as complete
    return job


def holds_job(folder: Path, text: str) -> bool:
    """Whether a folder has the bundle with this content of its job file."""
    return (folder / JOB).is_file() and (folder / JOB).read_text(encoding="utf-8") == text


def read_job(folder: Path) -> Job:
    """The job of a bundle.

    Raises:
        ValueError: there is no job, or it is damaged.
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
        layers=model.layers,
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
