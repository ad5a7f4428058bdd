import json
import os
from pathlib import Path

import pandas as pd
import pytest

from nas.runs.files import RECIPE, RUN, SPACE
from nas.runs.records import RunInfo, now, versions
from nas.runs.run_dir import RunDir
from search_spaces import Space

INFO = RunInfo(
    created="2026-01-01T00:00:00+00:00", versions={}, space="tiny", dataset="digits", output_names=["a"]
)


@pytest.fixture
def run(tmp_path: Path, tiny: Space) -> RunDir:
    return RunDir.create(tmp_path / "deep" / "run", INFO, tiny, "epochs: 3\n")


def test_run_reopens_with_all_that_made_it(run: RunDir, tiny: Space) -> None:
    again = RunDir.open(run.path)
    assert again.info() == INFO
    assert again.space().config == tiny.config
    assert again.read_text(RECIPE) == "epochs: 3\n"
    assert json.loads(run.file(RUN).read_text())["schema_version"] == 1


def test_run_keeps_its_space_whatever_becomes_of_the_file(run: RunDir) -> None:
    # every default is spelled out, so that a later default does not change an old run
    assert "norm_eps: 1.0e-05" in run.read_text(SPACE)
    assert "schema_version: 1" in run.read_text(SPACE)


def test_creating_in_a_used_folder_is_refused(run: RunDir, tiny: Space, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("years")
    (tmp_path / "mine").mkdir()
    for name in (SPACE, RECIPE):  # a user's own files of these names
        (tmp_path / "mine" / name).write_text("mine")
    for path in (run.path, tmp_path / "full", tmp_path / "full" / "thesis.tex", tmp_path / "mine"):
        with pytest.raises(ValueError, match="must be missing or empty; give another --out, or add --resume"):
            RunDir.create(path, INFO, tiny, "")
    assert run.read_text(RECIPE) == "epochs: 3\n"
    assert (tmp_path / "mine" / RECIPE).read_text() == "mine"


@pytest.mark.parametrize("last", [RUN, SPACE, RECIPE])
def test_creation_that_was_cut_short_is_no_run_and_can_be_repeated(
    tmp_path: Path, tiny: Space, monkeypatch: pytest.MonkeyPatch, last: str
) -> None:
    replace = os.replace

    def cut_short(source: str, target: Path) -> None:
        if Path(target).name == last:
            Path(source).with_suffix(".left").write_text("a kill would leave the temporary file")
            raise KeyboardInterrupt
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", cut_short)
        with pytest.raises(KeyboardInterrupt):
            RunDir.create(tmp_path / "run", INFO, tiny, "")
    with pytest.raises(ValueError, match="is not a run directory"):
        RunDir.open(tmp_path / "run")
    assert RunDir.create(tmp_path / "run", INFO, tiny, "").info() == INFO


def test_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(
            ValueError, match=r"is not a run directory \(no run\.json and recipe\.yaml in it\); `nas train`"
        ):
            RunDir.open(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"schema_version": 1, "crea', r"run\.json is not JSON \(truncated\?\)"),
        ("[1, 2]", r"run\.json must have schema_version <= 1"),
        ('{"schema_version": 2}', r"run\.json must have schema_version <= 1; update the toolkit"),
        (
            '{"schema_version": 1, "colour": "red"}',
            r"run\.json: created: field required; .*colour: unknown key",
        ),
    ],
)
def test_damaged_or_newer_description_is_refused(run: RunDir, content: str, message: str) -> None:
    run.file(RUN).write_text(content)
    with pytest.raises(ValueError, match=message):
        RunDir.open(run.path).info()


def test_missing_files_are_named(run: RunDir) -> None:
    assert not run.has("front.csv")
    for read in (run.read_text, run.read_json, run.read_csv):
        with pytest.raises(ValueError, match=r"has no front\.csv yet"):
            read("front.csv")


def test_tables_keep_every_digit(run: RunDir) -> None:
    table = pd.DataFrame({"latency_ms": [0.1 + 0.2, 1 / 3], "arch_id": ["a", "b"]})
    run.write_csv("table.csv", table)
    pd.testing.assert_frame_equal(run.read_csv("table.csv"), table, check_exact=True)


def test_json_carries_a_schema_version(run: RunDir) -> None:
    run.write_json("figures.json", {"evaluations": 3})
    assert run.read_json("figures.json") == {"schema_version": 1, "evaluations": 3}


def test_writing_is_whole_or_not_at_all(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    run.write_text("note.txt", "old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            run.write_text("note.txt", "new")
    assert run.read_text("note.txt") == "old"
    assert {path.name for path in run.path.iterdir()} == {"note.txt", RUN, SPACE, RECIPE}


def test_versions_name_what_shapes_results() -> None:
    assert {"torch", "onnxruntime", "numpy", "pymoo"} <= versions().keys()
    assert "not installed" not in {v for name, v in versions().items() if name != "elastic-nas"}
    assert now().endswith("+00:00")
