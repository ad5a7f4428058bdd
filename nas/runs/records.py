"""Contents of the JSON files in a run directory."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from pydantic import BaseModel

from nas.data.preprocess import Preprocess
from nas.runs.commands import command, data_options
from nas.runs.files import LAST_SEARCH, SEARCH
from search_spaces import Arch

SCHEMA_VERSION = 1
"""Version of the format of all JSON files in a run."""


class CertificateRecord(BaseModel):
    """The entries of the certificate in `search.json` that are read again."""

    front: str
    found_share: float | None


class MetricObjectiveRecord(BaseModel, extra="forbid"):
    """An objective that is a metric of the task."""

    name: str
    metric: str
    unit: str
    maximise: bool


class SearchRecord(BaseModel):
    """The entries of `search.json` that are read again."""

    algorithm: str
    device: str
    calibration: str
    validation_images: int | None = None
    objectives: list[str]
    maximised: list[str]
    metric_objectives: dict[str, MetricObjectiveRecord]
    """The objectives that are metrics of the task, by name."""
    reference: dict[str, float]
    certificate: CertificateRecord | None = None


class LastSearch(BaseModel):
    """The device of the last search."""

    device: str


JSON_CONTENT: Mapping[str, type[BaseModel]] = {SEARCH: SearchRecord, LAST_SEARCH: LastSearch}
"""Types of the files that `Folder.read_json` checks."""


class Imported(BaseModel, extra="forbid"):
    """Origin of imported weights, which may have been trained on all training images."""

    source: str
    """The tool that trained the weights."""
    checkpoint: str | None
    """Name of the checkpoint file; None: the weights are those that the code of the network sets."""
    sha256: str | None
    calibrated: bool
    """Whether the batch norms have running statistics; otherwise all means are 0 and all variances are 1."""
    validation_images: int
    """Number of images of `val/` in the validation split, at most half; `files.csv` lists them."""
    subnets_trained: bool = True
    """False if only the largest subnet was trained."""
    options: list[str] = []
    """Options of the command `nas import`, without those that name files and folders."""

    @property
    def note(self) -> str:
        """A note to the user about these weights."""
        if self.checkpoint is None:
            return "weights as the code of the network sets them; without training they are random"
        text = f"weights of {self.source}, {self.checkpoint}; train/ may contain their training images"
        if not self.subnets_trained:
            return f"{text}; only the largest subnet is trained: train the others before a search"
        if self.calibrated:
            return text
        return (
            f"{text}; uncalibrated: the batch-norm statistics were never updated, so subnets need "
            f"recalibration, which evaluate, search and export do"
        )


class RunInfo(BaseModel, extra="forbid"):
    """Content of `run.json`: how the run was made, and what is needed to open it."""

    schema_version: int = SCHEMA_VERSION
    created: str
    """Time of creation: UTC, ISO 8601."""
    versions: dict[str, str]
    """Versions of the packages that affect results."""
    space: str
    dataset: str
    """Name, or `module:object` for a custom data set."""
    task: str = "classification"
    """Name, or `module:object` for a custom task."""
    data_root: str | None = None
    """Absolute path of the folder of the images; None if there is none or it is not known yet."""
    split_seed: int = 0
    output_names: list[str]
    """Names of the outputs, from the data set; empty for imported weights without images so far."""
    data_fingerprint: str | None = None
    """Fingerprint of the images, targets and splits; None for imported weights without images so far."""
    preprocess: Preprocess | None = None
    """Preprocessing for which imported weights were trained; None: that of the data set."""
    seed: int = 0
    imported: Imported | None = None
    """Origin of imported weights."""
    arch: Arch | None = None
    """The subnet of a fine-tuned run."""
    quantised: Arch | None = None
    """`arch` with the precision of its parts, if the subnet was fine-tuned with INT8 rounding."""

    @property
    def data_options(self) -> list[str]:
        """Options by which a command finds the data of the run, with FOLDER for an unknown data root."""
        return data_options(self.dataset, "FOLDER" if self._folder_is_unknown else None)

    def elastic_training(self, run: str | Path) -> str:
        """The command that trains the subnets of an imported network.

        Args:
            run: the run directory.
        """
        root = "FOLDER" if self._folder_is_unknown else self.data_root
        changes = [f"data.dataset={self.dataset}", f"data.root={root or 'null'}"]
        options = [part for change in changes for part in ("--set", change)]
        torch = self.imported is not None and self.imported.source == "torch"
        recipe = "own-network" if torch else "pretrained-vit"
        return command("train", "--config", recipe, "--init", run, *options, "--out", "NEW")

    @property
    def _folder_is_unknown(self) -> bool:
        return self.imported is not None and self.data_fingerprint is None and ":" not in self.dataset


def versions() -> dict[str, str]:
    """Versions of the packages that affect results."""
    names = ("elastic-nas", "torch", "onnxruntime", "onnx", "numpy", "pillow", "scikit-learn", "pymoo")
    versions = {}
    for name in names:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:  # a source tree without installation
            versions[name] = "not installed"
    return versions


def now() -> str:
    """The current time: UTC, ISO 8601, with a resolution of a second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
