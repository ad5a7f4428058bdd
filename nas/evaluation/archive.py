"""The archive: every real evaluation of a subnet, kept for good."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import pandas as pd

from hw_profiles.files import replace_file
from nas.run_dir import now
from search_spaces import Arch

SCHEMA_VERSION = 1
"""Kept in the file as SQLite's `user_version`."""
BUSY_SECONDS = 60.0
"""How long a writer waits for another one."""

_SCHEMA = """
CREATE TABLE evaluations (
    arch_id     TEXT NOT NULL,
    arch        TEXT NOT NULL,  -- JSON
    split       TEXT NOT NULL,
    calibration TEXT NOT NULL,
    metrics     TEXT NOT NULL,  -- JSON, name to number
    origin      TEXT NOT NULL,
    created     TEXT NOT NULL,  -- UTC, ISO 8601
    PRIMARY KEY (arch_id, split, calibration)
)
"""

_ADD = """
INSERT INTO evaluations VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (arch_id, split, calibration) DO UPDATE SET metrics = excluded.metrics
"""


class Archive:
    """An append-only SQLite file with one row per arch, split and calibration.

    Each call is one transaction on a connection of its own: a kill loses nothing that was added, and several
    threads or processes may share the file.

    Args:
        path: the file; it is made if missing.

    Raises:
        ValueError: the file is no archive, is damaged, is of a newer version or cannot be written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        with self._transaction() as database:
            (version,) = database.execute("PRAGMA user_version").fetchone()
            tables = database.execute("SELECT name FROM sqlite_master").fetchall()
            if not tables:
                database.execute(_SCHEMA)
                database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            elif version > SCHEMA_VERSION:
                raise ValueError(
                    f"the archive {path} must have schema version <= {SCHEMA_VERSION}, got {version}; "
                    f"update the toolkit"
                )
            elif ("evaluations",) not in tables:
                raise ValueError(f"{path} is an SQLite file but no archive of evaluations; give another path")
            (finding,) = database.execute("PRAGMA quick_check(1)").fetchone()
            if finding != "ok":
                raise ValueError(f"the archive {path} is damaged ({finding}); restore it or delete it")

    def add(
        self, arch: Arch, split: str, calibration: str, metrics: Mapping[str, float], origin: str
    ) -> dict[str, float]:
        """Keep one evaluation; the first value of each metric for an arch, split and calibration stays.

        Args:
            arch: the subnet that was evaluated.
            split: `validation` or `test`.
            calibration: text that identifies the images of the BN recalibration, such as `default:512:seed0`.
            metrics: name to value.
            origin: who asked for it: `random`, `search`, `baseline`...

        Returns:
            All metrics that the archive holds, which another writer may have added first.
        """
        with self._transaction() as database:
            kept = dict(metrics) | (_metrics(database, arch, split, calibration) or {})
            row = (arch.id, arch.to_json(), split, calibration, json.dumps(kept), origin, now())
            database.execute(_ADD, row)
        return kept

    def get(self, arch: Arch, split: str, calibration: str) -> dict[str, float] | None:
        """The metrics of an evaluation, None if there was none yet."""
        with self._transaction() as database:
            return _metrics(database, arch, split, calibration)

    def frame(self, split: str | None = None, calibration: str | None = None) -> pd.DataFrame:
        """All evaluations, oldest first: one column each for what identifies them, then one per metric.

        Args:
            split: only this split.
            calibration: only this calibration.
        """
        with self._transaction() as database:
            rows = pd.read_sql_query("SELECT * FROM evaluations ORDER BY rowid", database)
        if split is not None:
            rows = rows[rows["split"] == split]
        if calibration is not None:
            rows = rows[rows["calibration"] == calibration]
        rows = rows.reset_index(drop=True)
        metrics = pd.DataFrame([json.loads(text) for text in rows["metrics"]], index=rows.index)
        return rows.drop(columns="metrics").join(metrics)

    def write_csv(self, path: Path) -> None:
        """Write the whole archive as a table for people."""
        replace_file(path, self.frame().to_csv(index=False))

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(self.path, timeout=BUSY_SECONDS, isolation_level=None)) as database:
                database.execute("BEGIN IMMEDIATE")  # one writer at a time from its first read on
                yield database
                database.execute("COMMIT")
        except sqlite3.Error as error:
            raise ValueError(f"cannot use the archive {self.path}: {error}") from error


def _metrics(
    database: sqlite3.Connection, arch: Arch, split: str, calibration: str
) -> dict[str, float] | None:
    found = database.execute(
        "SELECT metrics FROM evaluations WHERE arch_id = ? AND split = ? AND calibration = ?",
        (arch.id, split, calibration),
    ).fetchone()
    return None if found is None else {name: float(value) for name, value in json.loads(found[0]).items()}
