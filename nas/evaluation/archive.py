"""The archive of all evaluations of subnets."""

from __future__ import annotations

import json
import logging
import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import pandas as pd

from hw_profiles.atomic_write import replace_file
from nas.runs.files import ARCHIVE
from nas.runs.records import now
from nas.runs.run_dir import RunDir
from nas.runs.tables import csv_text, with_archs
from search_spaces import Arch

SCHEMA_VERSION = 2
"""Value of SQLite's `user_version` in the file."""
BUSY_SECONDS = 60.0
"""Time that a writer waits for another one."""

_log = logging.getLogger("nas")

_SCHEMA = """
CREATE TABLE evaluations (
    arch_id     TEXT NOT NULL,
    arch        TEXT NOT NULL,  -- JSON
    data        TEXT NOT NULL,  -- fingerprint
    split       TEXT NOT NULL,
    calibration TEXT NOT NULL,
    metrics     TEXT NOT NULL,  -- JSON, name to number
    origin      TEXT NOT NULL,
    created     TEXT NOT NULL,  -- UTC, ISO 8601
    PRIMARY KEY (arch_id, data, split, calibration)
)
"""

_ADD = """
INSERT INTO evaluations VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (arch_id, data, split, calibration) DO UPDATE SET metrics = excluded.metrics
"""

_ALL = "SELECT * FROM evaluations WHERE data = ? ORDER BY rowid"
_ONE = "SELECT metrics FROM evaluations WHERE arch_id = ? AND data = ? AND split = ? AND calibration = ?"
_COLUMNS = ("arch_id", "arch", "data", "split", "calibration", "metrics", "origin", "created")


def open_archive(run: RunDir, validation_images: int | None = None) -> Archive:
    """Open the archive of a run.

    Args:
        run: the run.
        validation_images: size of the part of the validation split that subnets are evaluated on; None: all.

    Raises:
        ValueError: as `Archive`.
    """
    data = run.info().data_fingerprint or ""
    part = "" if validation_images is None else f":validation{validation_images}"
    return Archive(run.file(ARCHIVE), data + part)


class Archive:
    """An append-only SQLite file with one row per arch, data, split and calibration.

    Each call is one transaction on a new connection, so an interruption loses no stored evaluation, and
    several threads or processes may share the file. The first `add` creates the file. If the file is
    read-only, `add` stores nothing.

    Args:
        path: the file.
        data: fingerprint of the data that subnets are evaluated on; rows with another fingerprint are
            ignored.

    Raises:
        ValueError: the file is not an archive, is damaged, or has another schema version.
    """

    def __init__(self, path: str | Path, data: str = "") -> None:
        self.path, self.data = Path(path), data
        self._warned = False
        with self._reading() as database:
            if database is not None:
                self._check(database)

    @property
    def read_only(self) -> bool:
        """Whether the file or its folder cannot be written, so that `add` stores nothing."""
        return any(path.exists() and not os.access(path, os.W_OK) for path in (self.path, self.path.parent))

    def add(
        self, arch: Arch, split: str, calibration: str, metrics: Mapping[str, float], origin: str
    ) -> dict[str, float]:
        """Store one evaluation; existing values of metrics are not replaced.

        Args:
            arch: the subnet that was evaluated.
            split: `validation` or `test`.
            calibration: key of the BN recalibration, such as `default:512:seed0`.
            metrics: values by name.
            origin: purpose of the evaluation: `random`, `search`, `baseline`...

        Returns:
            All metrics in the archive for this evaluation, including those that another writer has stored.
        """
        if self.read_only:
            if not self._warned:
                _log.warning("%s cannot be written: new evaluations are not stored", self.path)
            self._warned = True
            return dict(metrics) | (self.get(arch, split, calibration) or {})
        with self._writing() as database:
            stored = dict(metrics) | (self._metrics(database, arch, split, calibration) or {})
            text = json.dumps(stored)
            row = (arch.id, arch.to_json(), self.data, split, calibration, text, origin, now())
            database.execute(_ADD, row)
        return stored

    def get(self, arch: Arch, split: str, calibration: str) -> dict[str, float] | None:
        """The metrics of an evaluation, or None if it is not in the archive."""
        with self._reading() as database:
            return self._metrics(database, arch, split, calibration) if database else None

    def frame(self, split: str | None = None, calibration: str | None = None) -> pd.DataFrame:
        """All evaluations, oldest first, with one column per metric.

        The column `arch` has `Arch` values.

        Args:
            split: the split; None: all.
            calibration: the key of the calibration; None: all.
        """
        with self._reading() as database:
            if database is None:
                rows = pd.DataFrame([], columns=list(_COLUMNS), dtype=str)
            else:
                rows = pd.read_sql_query(_ALL, database, params=(self.data,))
        if split is not None:
            rows = rows[rows["split"] == split]
        if calibration is not None:
            rows = rows[rows["calibration"] == calibration]
        rows = rows.reset_index(drop=True)
        metrics = pd.DataFrame([json.loads(text) for text in rows["metrics"]], index=rows.index)
        return with_archs(rows.drop(columns="metrics"), str(self.path)).join(metrics)

    def write_csv(self, path: Path) -> None:
        """Write the archive as a CSV file, unless it is read-only."""
        if not self.read_only:
            replace_file(path, csv_text(self.frame()))

    def _check(self, database: sqlite3.Connection) -> None:
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if ("evaluations",) not in database.execute("SELECT name FROM sqlite_master").fetchall():
            raise ValueError(
                f"{self.path} is an SQLite file but not an archive of evaluations; give another path"
            )
        if version != SCHEMA_VERSION:
            remedy = "update the toolkit" if version > SCHEMA_VERSION else "delete it and evaluate again"
            raise ValueError(
                f"the archive {self.path} must have schema version {SCHEMA_VERSION}, got {version}; {remedy}"
            )
        (result,) = database.execute("PRAGMA quick_check(1)").fetchone()
        if result != "ok":
            raise ValueError(f"the archive {self.path} is damaged ({result}); restore it or delete it")

    def _metrics(
        self, database: sqlite3.Connection, arch: Arch, split: str, calibration: str
    ) -> dict[str, float] | None:
        row = database.execute(_ONE, (arch.id, self.data, split, calibration)).fetchone()
        return None if row is None else {name: float(value) for name, value in json.loads(row[0]).items()}

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection | None]:
        """A connection for reading, or None if the archive does not exist yet."""
        if not self.path.exists():
            yield None
            return
        mode = "ro" if self.read_only else "rw"  # "rw" rolls back an interrupted write
        with self._connected(f"{self.path.absolute().as_uri()}?mode={mode}") as database:
            empty = not database.execute("SELECT name FROM sqlite_master").fetchall()
            yield None if empty else database  # another process is creating it

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction for writing."""
        with self._connected(self.path.absolute().as_uri()) as database:
            database.execute("BEGIN IMMEDIATE")  # lock before the first read
            if not database.execute("SELECT name FROM sqlite_master").fetchall():
                database.execute(_SCHEMA)
                database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            yield database
            database.execute("COMMIT")

    @contextmanager
    def _connected(self, uri: str) -> Iterator[sqlite3.Connection]:
        try:
            connection = sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None)
            with closing(connection) as database:
                yield database
        except sqlite3.Error as error:
            raise ValueError(f"cannot use the archive {self.path}: {error}") from error
