"""Contents of the JSON files in a run directory."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata

from pydantic import BaseModel

from nas.runs.commands import data_options
from nas.runs.files import LAST_SEARCH, SEARCH
from search_spaces import Arch

SCHEMA_VERSION = 1
"""Of all JSON files of a run."""


class CertificateRecord(BaseModel):
    """The entries of the certificate in `search.json` that later steps read."""

    front: str
    found_share: float | None


class MetricObjectiveRecord(BaseModel, extra="forbid"):
    """An objective that is a metric of the task."""

    name: str
    metric: str
    unit: str
    maximise: bool


class SearchRecord(BaseModel):
    """The entries of `search.json` that later steps read."""

    algorithm: str
    device: str
    calibration: str
    objectives: list[str]
    maximised: list[str]
    metric_objectives: dict[str, MetricObjectiveRecord]
    """By name: the objectives that are metrics of the run's task."""
    reference: dict[str, float]
    certificate: CertificateRecord | None = None


class LastSearch(BaseModel):
    """The device that was searched last."""

    device: str


JSON_CONTENT: Mapping[str, type[BaseModel]] = {SEARCH: SearchRecord, LAST_SEARCH: LastSearch}
"""Contents of files that `Folder.read_json` checks."""


class Imported(BaseModel, extra="forbid"):
    """Weights that were trained elsewhere: all training images count as seen."""

    source: str
    """The tool that trained them."""
    checkpoint: str
    """Name of the file."""
    sha256: str
    calibrated: bool
    """Whether the batch norms have running statistics of their own; else all are still 0 and 1."""
    validation_images: int
    """Of `val/` that steer the search, at most half of them; see `files.csv` for which."""

    @property
    def note(self) -> str:
        """A note to the user about such weights."""
        text = f"weights of {self.source}, {self.checkpoint}; all of train/ counts as seen"
        if self.calibrated:
            return text
        return (
            f"{text}; uncalibrated: their own batch-norm statistics were never updated, so only subnets that "
            f"are recalibrated, as evaluate, search and export do, are worth anything"
        )


class RunInfo(BaseModel, extra="forbid"):
    """`run.json`: how the run was made, so that it can be reopened."""

    schema_version: int = SCHEMA_VERSION
    created: str
    """UTC, ISO 8601."""
    versions: dict[str, str]
    """Of the packages that shape results."""
    space: str
    dataset: str
    """Name, or `module:object` of a user's own."""
    task: str = "classification"
    """Likewise."""
    data_root: str | None = None
    """Absolute."""
    split_seed: int = 0
    classes: list[str]
    """Of the data set; empty where imported weights met no images yet."""
    data_fingerprint: str | None = None
    """Of the images, labels and splits; None where imported weights met no images yet."""
    seed: int = 0
    imported: Imported | None = None
    """Where the weights come from, if they were trained elsewhere."""
    arch: Arch | None = None
    """The only subnet that was trained, if not all of them were."""

    @property
    def data_options(self) -> list[str]:
        """Options by which a command finds the run's data; FOLDER stands for what is not known."""
        unknown = self.imported is not None and self.data_root is None and ":" not in self.dataset
        return data_options(self.dataset, "FOLDER" if unknown else None)


def versions() -> dict[str, str]:
    """Versions of the packages that shape results."""
    names = ("elastic-nas", "torch", "onnxruntime", "onnx", "numpy", "pillow", "scikit-learn", "pymoo")
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:  # a source tree that was never installed
            found[name] = "not installed"
    return found


def now() -> str:
    """The time as ISO 8601, UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
