"""A folder of a run, whose files are written atomically."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
from pydantic import BaseModel, ValidationError

from hw_profiles.atomic_write import replace_file
from nas.runs.files import CSV_COLUMNS, TEXT_COLUMNS
from nas.runs.records import JSON_CONTENT, SCHEMA_VERSION
from nas.runs.tables import csv_text, read_subnets
from search_spaces.errors import one_line
from search_spaces.text_files import read_text

Model = TypeVar("Model", bound=BaseModel)


class Folder:
    """The files of one folder of a run, each written atomically.

    Args:
        path: the folder; it is created when the first file is written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def file(self, name: str) -> Path:
        """Path of a file."""
        return self.path / name

    def has(self, name: str) -> bool:
        """Whether the folder has this file."""
        return self.file(name).exists()

    def check_writable(self, remedy: str) -> None:
        """Check that files can be written to the folder, before starting work whose results would be lost.

        Args:
            remedy: advice to the user, for the message.

        Raises:
            ValueError: the folder, or its first existing parent, cannot be written to.
        """
        existing = next(path for path in (self.path, *self.path.absolute().parents) if path.exists())
        if not existing.is_dir() or not os.access(existing, os.W_OK):
            raise ValueError(f"{self.path} must be a writable folder; {remedy}")

    def read_text(self, name: str) -> str:
        """Content of a text file.

        Raises:
            ValueError: the file does not exist.
        """
        try:
            return read_text(self.file(name))
        except FileNotFoundError:
            raise ValueError(f"{self.path} has no {name} yet") from None

    def write_text(self, name: str, text: str) -> None:
        """Write a text file atomically."""
        replace_file(self.file(name), text)

    def write_bytes(self, name: str, content: bytes) -> None:
        """Write a binary file atomically."""
        replace_file(self.file(name), content)

    def write_json(self, name: str, content: BaseModel | Mapping[str, Any]) -> None:
        """Write a JSON file with its schema version."""
        values = content.model_dump(mode="json") if isinstance(content, BaseModel) else dict(content)
        self.write_text(name, json.dumps({"schema_version": SCHEMA_VERSION} | values, indent=2) + "\n")

    def read_json(self, name: str) -> dict[str, Any]:
        """Content of a JSON file.

        Raises:
            ValueError: the file is missing, truncated, or was written by a newer version of the toolkit.
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
        """Content of a JSON file as a pydantic model.

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
        """Write a table; column names have units, and `Arch` values are written as JSON."""
        self.write_text(name, csv_text(frame))

    def read_csv(self, name: str) -> pd.DataFrame:
        """Content of a table, with `Arch` values in the column `arch`.

        Raises:
            ValueError: the file does not exist, or is not a valid table.
        """
        if not self.has(name):
            raise ValueError(f"{self.path} has no {name} yet")
        texts = TEXT_COLUMNS if name in CSV_COLUMNS else None
        return read_subnets(self.file(name), CSV_COLUMNS.get(name, ()), texts).reset_index(drop=True)
