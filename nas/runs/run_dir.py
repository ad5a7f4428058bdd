"""The one writer of a run directory: every file name and its format is here."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import pandas as pd
from pydantic import BaseModel, ValidationError

import search_spaces
from hw_profiles.atomic_write import replace_file
from hw_profiles.csv_tables import read_table
from nas.runs.commands import command, data_options
from search_spaces import Arch, Space
from search_spaces.errors import one_line
from search_spaces.text_files import read_text

Model = TypeVar("Model", bound=BaseModel)

SCHEMA_VERSION = 1
RUN, SPACE, RECIPE = "run.json", "space.yaml", "recipe.yaml"
TRAINING_LOG = "training.csv"
SPEED, TENSORBOARD = "speed.csv", "tensorboard"
TRANSFER = "transfer.json"
SUPERNET = "supernet.safetensors"
FILES = "files.csv"
CHECKPOINTS = "checkpoints"
ARCHIVE, ARCHIVE_CSV = "archive.sqlite", "archive.csv"
PREDICTOR = "predictor.json"
SURROGATE = "surrogate.json"
PROFILES = "profiles"
SEARCH, SEARCH_CSV = "search.json", "search.csv"
FRONT, BASELINE = "front.csv", "baseline.csv"
LOCK = ".lock"
SEARCHES, LAST_SEARCH = "searches", "last_search.json"
EXPORTS = "exports"
ONNX, TORCH = ".onnx", ".pt2"
TEST = "test.csv"
REPORT = "report.html"


class CertificateRecord(BaseModel):
    """What later steps read of the certificate in `search.json`."""

    front: str
    found_share: float | None


class SearchRecord(BaseModel):
    """What later steps read of `search.json`."""

    algorithm: str
    device: str
    calibration: str
    objectives: list[str]
    maximised: list[str]
    reference: dict[str, float]
    certificate: CertificateRecord | None = None


class LastSearch(BaseModel):
    """The device that was searched last."""

    device: str


JSON_CONTENT: Mapping[str, type[BaseModel]] = {SEARCH: SearchRecord, LAST_SEARCH: LastSearch}
"""What JSON files must hold that are read without a model of their own."""
CSV_COLUMNS: Mapping[str, tuple[str, ...]] = {
    FRONT: ("arch_id", "arch", "latency_ms", "measured_latency_ms"),
    BASELINE: ("arch_id", "arch", "latency_ms"),
    TEST: ("arch_id",),
    TRAINING_LOG: ("step", "lr", "loss_largest", "loss_smallest", "loss_random"),
}
"""Columns that tables must have."""


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
        """What a user should know about such weights."""
        text = f"weights of {self.source}, {self.checkpoint}; all of train/ counts as seen"
        if self.calibrated:
            return text
        return (
            f"{text}; uncalibrated: their own batch-norm statistics were never updated, so only subnets that "
            f"are recalibrated, as evaluate, search and export do, are worth anything"
        )


class RunInfo(BaseModel, extra="forbid"):
    """`run.json`: what made the run, so that it can be reopened."""

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


class Folder:
    """The files of one folder of a run, each written whole or not at all.

    Args:
        path: the folder; it is made by the first file that is written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def file(self, name: str) -> Path:
        """Path of a file."""
        return self.path / name

    def has(self, name: str) -> bool:
        """Whether the folder has this file."""
        return self.file(name).exists()

    def refuse_read_only(self, remedy: str) -> None:
        """Check that files can be written here, before work whose results would be lost.

        Args:
            remedy: what the user can do otherwise.

        Raises:
            ValueError: the folder, or the one that it would be made in, cannot be written.
        """
        existing = next(path for path in (self.path, *self.path.absolute().parents) if path.exists())
        if not existing.is_dir() or not os.access(existing, os.W_OK):
            raise ValueError(f"{self.path} must be a folder that can be written; {remedy}")

    def read_text(self, name: str) -> str:
        """Content of a text file.

        Raises:
            ValueError: there is no such file yet.
        """
        try:
            return read_text(self.file(name))
        except FileNotFoundError:
            raise ValueError(f"{self.path} has no {name} yet") from None

    def write_text(self, name: str, text: str) -> None:
        """Write a text file, whole or not at all."""
        replace_file(self.file(name), text)

    def write_bytes(self, name: str, content: bytes) -> None:
        """Write a binary file, whole or not at all."""
        replace_file(self.file(name), content)

    def write_json(self, name: str, content: BaseModel | Mapping[str, Any]) -> None:
        """Write a JSON file with its schema version."""
        plain = content.model_dump(mode="json") if isinstance(content, BaseModel) else dict(content)
        self.write_text(name, json.dumps({"schema_version": SCHEMA_VERSION} | plain, indent=2) + "\n")

    def read_json(self, name: str) -> dict[str, Any]:
        """Content of a JSON file.

        Raises:
            ValueError: the file is missing, truncated or of a newer version of the toolkit.
        """
        try:
            content = json.loads(self.read_text(name))
        except json.JSONDecodeError as error:
            raise ValueError(f"{self.file(name)} is not JSON (truncated?): {error}") from None
        version = content.get("schema_version", 0) if isinstance(content, dict) else None
        if not isinstance(version, int) or version > SCHEMA_VERSION:
            raise ValueError(
                f"{self.file(name)} must have schema_version <= {SCHEMA_VERSION}; update the toolkit"
            )
        if name in JSON_CONTENT:
            self._check(name, JSON_CONTENT[name], content)
        return dict(content)

    def read_model(self, name: str, model: type[Model]) -> Model:
        """Content of a JSON file as a typed value.

        Raises:
            ValueError: as `read_json`, or the content does not fit the model.
        """
        return self._check(name, model, self.read_json(name))

    def _check(self, name: str, model: type[Model], content: object) -> Model:
        try:
            return model.model_validate(content)
        except ValidationError as error:
            raise ValueError(one_line(error, str(self.file(name)))) from None

    def write_csv(self, name: str, frame: pd.DataFrame) -> None:
        """Write a table; units belong in the column names."""
        self.write_text(name, frame.to_csv(index=False))

    def read_csv(self, name: str) -> pd.DataFrame:
        """Content of a table.

        Raises:
            ValueError: there is no such file yet, or it is no table.
        """
        if not self.has(name):
            raise ValueError(f"{self.path} has no {name} yet")
        return read_table(self.file(name), CSV_COLUMNS.get(name, ())).reset_index(drop=True)


class RunDir(Folder):
    """A run directory.

    Args:
        path: the folder; `create` makes it, `open` wants it to be a run.
    """

    @classmethod
    def create(
        cls,
        path: str | Path,
        info: RunInfo,
        space: Space,
        recipe: str,
        others: Mapping[str, bytes] = MappingProxyType({}),
    ) -> RunDir:
        """Start a run in a missing or empty folder, or in one where a kill cut this very function short.

        Args:
            path: the folder.
            info: what makes the run.
            space: of its subnets.
            recipe: YAML text.
            others: contents of further files, by name.

        Raises:
            ValueError: the folder holds something already.
        """
        cls.check_free(path)
        run = cls(path)
        run.write_json(RUN, info)  # first: it tells what a kill leaves from a user's own YAML files
        run.write_text(SPACE, space.to_yaml())
        for name, content in others.items():
            run.write_bytes(name, content)
        run.write_text(RECIPE, recipe)
        return run

    @staticmethod
    def check_free(path: str | Path) -> None:
        """Check that a run can be started in a folder, as `create` does.

        Raises:
            ValueError: the folder holds something already.
        """
        path = Path(path)
        if path.exists() and not (path.is_dir() and _is_free(path)):
            raise ValueError(
                f"the run directory {path} must be missing or empty; give another --out, or --resume to go on"
            )

    @classmethod
    def open(cls, path: str | Path) -> RunDir:
        """An existing run.

        Raises:
            ValueError: the folder is missing or no run.
        """
        run = cls(path)
        if not run.created:
            raise ValueError(
                f"{path} is not a run directory (no {RUN} and {RECIPE} in it); `nas train` makes one"
            )
        return run

    @property
    def created(self) -> bool:
        """Whether the folder is a run: the first file of `create` is there, and the last one."""
        return self.has(RUN) and self.has(RECIPE)

    def info(self) -> RunInfo:
        """What made the run."""
        return self.read_model(RUN, RunInfo)

    def space(self) -> Space:
        """The space of the run, as it was when the run began."""
        space = search_spaces.parse(self.read_text(SPACE), source=str(self.path / SPACE))
        space.source = str(self.path)
        return space

    @property
    def last_device(self) -> str | None:
        """The device that the run was last searched for, None before the first search."""
        return str(self.read_json(LAST_SEARCH)["device"]) if self.has(LAST_SEARCH) else None

    def searched(self) -> list[str]:
        """Names of the devices that the run was searched for."""
        return sorted(path.parent.name for path in self.file(SEARCHES).glob(f"*/{SEARCH}"))

    def search(self, device: str | None = None) -> Folder:
        """Results of the search for a device, by default for the last one that was searched.

        Raises:
            ValueError: the run was not searched for it.
        """
        name = device or self.last_device
        search = command("search", self.path, "--device", name or "NAME")
        if name is None:
            raise ValueError(f"the run {self.path} was not searched yet; `{search}` does it")
        searched = self.searched()
        if name not in searched:
            raise ValueError(
                f"the run {self.path} was not searched for the device {name!r} (searched: "
                f"{', '.join(searched) or 'none'}); `{search}` does it"
            )
        return Folder(self.file(SEARCHES) / name)

    def exports(self, device: str | None, out: Path | None = None) -> Folder:
        """The folder of files that are exported for a device, or for none; with `out` that folder."""
        return Folder(out or self.file(EXPORTS) / (device or ""))

    def start_search(self, device: str) -> Folder:
        """The folder for new results of a device; older ones no longer count until `SEARCH` is written."""
        folder = Folder(self.file(SEARCHES) / device)
        folder.file(SEARCH).unlink(missing_ok=True)
        return folder

    def finish_search(self, device: str) -> None:
        """Record the device as the one that was searched last."""
        self.write_json(LAST_SEARCH, {"device": device})


def _is_free(folder: Path) -> bool:
    """Whether the folder is empty, or holds what a kill in `RunDir.create` left."""
    names = {entry.name for entry in folder.iterdir() if not entry.name.startswith(f".{RUN}.")} - {LOCK}
    return not names or (RUN in names and RECIPE not in names)


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
