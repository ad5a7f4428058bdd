import os
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import search_spaces
from nas.evaluation.archive import SCHEMA_VERSION, Archive
from nas.runs.tables import read_subnets

SPACE = search_spaces.get("digits")
DATA = "0012345678901234"  # a fingerprint that looks like a number
ARCHS = SPACE.decode(SPACE.sample(np.random.default_rng(0), 12))


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(tmp_path / "archive.sqlite", DATA)


def test_what_was_added_is_found_again_and_only_that(archive: Archive) -> None:
    metrics = {"cross_entropy": 0.1 + 0.2, "top1": 0.975}
    assert archive.get(ARCHS[0], "validation", "default:512:seed0") is None
    assert archive.add(ARCHS[0], "validation", "default:512:seed0", metrics, "random") == metrics
    reopened = Archive(archive.path, DATA)
    assert Archive(archive.path, "other").get(ARCHS[0], "validation", "default:512:seed0") is None
    assert Archive(archive.path, "other").frame().empty
    assert reopened.get(ARCHS[0], "validation", "default:512:seed0") == metrics  # to the last bit
    for arch, split, calibration in (
        (ARCHS[1], "validation", "default:512:seed0"),
        (ARCHS[0], "test", "default:512:seed0"),
        (ARCHS[0], "validation", "default:512:seed1"),
    ):
        assert reopened.get(arch, split, calibration) is None


def test_first_evaluation_stays_and_is_what_the_second_writer_gets(archive: Archive) -> None:
    archive.add(ARCHS[0], "test", "c", {"top1": 0.5}, "random")
    assert archive.add(ARCHS[0], "test", "c", {"top1": 0.9}, "search") == {"top1": 0.5}
    assert archive.frame()["origin"].tolist() == ["random"]


def test_frame_has_a_column_for_each_metric_in_the_order_of_adding(archive: Archive, tmp_path: Path) -> None:
    archive.add(ARCHS[1], "validation", "a", {"cross_entropy": 1.5, "top1": 0.5}, "random")
    archive.add(ARCHS[0], "validation", "b", {"cross_entropy": 1.0, "macro_f1": 0.25}, "search")
    archive.add(ARCHS[0], "test", "a", {"cross_entropy": 2.0}, "search")
    frame = archive.frame()
    assert frame["arch_id"].tolist() == [ARCHS[1].id, ARCHS[0].id, ARCHS[0].id]
    assert frame["arch"].tolist() == [ARCHS[1], ARCHS[0], ARCHS[0]]
    assert frame["cross_entropy"].tolist() == [1.5, 1.0, 2.0]
    assert frame["top1"].isna().tolist() == [False, True, True]
    assert archive.frame(split="validation")["cross_entropy"].tolist() == [1.5, 1.0]
    assert archive.frame(split="validation", calibration="b")["macro_f1"].tolist() == [0.25]
    archive.write_csv(tmp_path / "archive.csv")
    pd.testing.assert_frame_equal(read_subnets(tmp_path / "archive.csv").reset_index(drop=True), frame)


def test_frame_of_an_empty_archive_has_its_columns(archive: Archive) -> None:
    frame = archive.frame()
    assert frame.empty
    assert list(frame) == ["arch_id", "arch", "data", "split", "calibration", "origin", "created"]


def test_several_writers_share_the_file(tmp_path: Path) -> None:
    def write(writer: int) -> None:
        mine = Archive(tmp_path / "archive.sqlite")
        for i, arch in enumerate(ARCHS):
            mine.add(arch, "validation", "c", {"top1": float(i)}, f"writer {writer}")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    frame = Archive(tmp_path / "archive.sqlite").frame()
    assert sorted(frame["arch_id"]) == sorted(arch.id for arch in ARCHS)
    assert frame.set_index("arch_id")["top1"].to_dict() == {a.id: float(i) for i, a in enumerate(ARCHS)}


def test_a_kill_loses_nothing_that_was_added(archive: Archive) -> None:
    script = (
        "import os, sqlite3, sys; import numpy as np, search_spaces;"
        "from nas.evaluation.archive import Archive;"
        "space = search_spaces.get('digits');"
        "archs = space.decode(space.sample(np.random.default_rng(0), 12));"
        "archive = Archive(sys.argv[1]);"
        "archive.add(archs[0], 'test', 'c', {'top1': 0.5}, 'random');"
        "db = sqlite3.connect(sys.argv[1], isolation_level=None); db.execute('BEGIN IMMEDIATE');"
        "db.execute(\"UPDATE evaluations SET metrics = '{}'\"); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(archive.path)], check=False)
    assert done.returncode == -9
    assert Archive(archive.path).get(ARCHS[0], "test", "c") == {"top1": 0.5}


def test_foreign_files_are_refused_and_left_alone(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("not a database, but long enough to be looked at" * 40)
    with pytest.raises(ValueError, match=r"cannot use the archive .*notes\.txt: file is not a database"):
        Archive(text)
    assert text.read_text().startswith("not a database")
    foreign = tmp_path / "foreign.sqlite"
    with sqlite3.connect(foreign) as database:
        database.execute("CREATE TABLE birds (name TEXT)")
    database.close()
    with pytest.raises(ValueError, match="not an archive of evaluations"):
        Archive(foreign)


def test_truncated_file_is_refused(archive: Archive) -> None:
    for i in range(40):
        archive.add(ARCHS[i % 12], "validation", f"seed{i}", {"top1": 0.5}, "random")
    content = archive.path.read_bytes()
    archive.path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"archive\.sqlite"):
        Archive(archive.path)


@pytest.mark.parametrize(("step", "remedy"), [(1, "update the toolkit"), (-1, "delete it")])
def test_another_schema_is_refused(archive: Archive, step: int, remedy: str) -> None:
    archive.add(ARCHS[0], "test", "c", {"top1": 0.5}, "random")
    with sqlite3.connect(archive.path) as database:
        database.execute(f"PRAGMA user_version = {SCHEMA_VERSION + step}")
    database.close()
    with pytest.raises(ValueError, match=rf"schema version {SCHEMA_VERSION}, got .*; {remedy}"):
        Archive(archive.path)


def test_file_that_cannot_be_written_is_read(
    archive: Archive, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    archive.add(ARCHS[0], "test", "c", {"top1": 0.5}, "random")
    before = archive.path.read_bytes()
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    opened = Archive(archive.path, DATA)
    assert opened.get(ARCHS[0], "test", "c") == {"top1": 0.5}
    for _ in range(2):
        found = opened.add(ARCHS[0], "test", "c", {"top1": 0.9, "macro_f1": 0.25}, "search")
        assert found == {"top1": 0.5, "macro_f1": 0.25}
    assert caplog.text.count("cannot be written: new evaluations are not stored") == 1
    opened.write_csv(archive.path.with_suffix(".csv"))
    assert [path.name for path in archive.path.parent.iterdir()] == ["archive.sqlite"]
    assert archive.path.read_bytes() == before


def test_folder_that_is_missing_is_one_clear_error(tmp_path: Path) -> None:
    archive = Archive(tmp_path / "missing" / "archive.sqlite")
    with pytest.raises(ValueError, match="unable to open database file"):
        archive.add(ARCHS[0], "validation", "c", {"top1": 0.5}, "random")
