"""Damaged files of a run end every command in one line, never in a traceback."""

import json
import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from conftest import Nas

from nas.evaluation.trained_run import TrainedRun
from nas.report import final_test

COMMANDS = (
    "describe RUN",
    "pick RUN",
    "evaluate RUN --arch smallest",
    "export RUN --pick first",
    "report RUN",
    "train --config RECIPE --out OUT --init RUN",
    "train --config RUN/recipe.yaml --out RUN --resume",
)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def fill_with_noise(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * 8)


def leave_nothing_expected(path: Path) -> None:
    """Well-formed, but without anything that should be there."""
    if path.suffix == ".sqlite":
        path.unlink()
        with closing(sqlite3.connect(path)) as database:
            database.execute("CREATE TABLE other (a)")
    else:
        text = '{"schema_version": 1}' if path.suffix == ".json" else "a,b\n1,2\n"
        path.write_text(text, encoding="utf-8")


def change_types(path: Path) -> None:
    """Values of JSON become lists, numbers elsewhere text."""
    text = path.read_text(encoding="utf-8", errors="replace")
    if path.suffix == ".json":
        content: dict[str, object] = {key: [{}] for key in json.loads(text)} | {"schema_version": 1}
        path.write_text(json.dumps(content), encoding="utf-8")
    else:
        path.write_text(re.sub(r"\d+\.\d+", "abc", text), encoding="utf-8")


DAMAGES = (
    truncate,
    replace_by_folder,
    fill_with_noise,
    leave_nothing_expected,
    change_types,
    Path.unlink,
)
FILES = (
    "run.json",
    "space.yaml",
    "recipe.yaml",
    "supernet.safetensors",
    "checkpoints/step_000000014.pt",
    "archive.sqlite",
    "archive.csv",
    "training.csv",
    "speed.csv",
    "last_search.json",
    "profiles/desk/profile.json",
    "profiles/desk/space.yaml",
    "profiles/desk/table.csv",
    "profiles/desk/boundaries.csv",
    "profiles/desk/fitted.csv",
    "profiles/desk/held_out.csv",
    "searches/desk/search.json",
    "searches/desk/surrogate.json",
    "searches/desk/predictor.json",
    "searches/desk/front.csv",
    "searches/desk/baseline.csv",
    "searches/desk/search.csv",
)


def test_every_file_of_a_run_is_tried(searched: TrainedRun) -> None:
    run = searched.run.path
    assert {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()} == set(FILES)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("quick_search")
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_one_line(
    nas: Nas, searched: TrainedRun, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(final_test, "N_RANDOM", 2)
    places = {"RUN": tmp_path / "run", "OUT": tmp_path / "out", "RECIPE": recipe}
    for damage in DAMAGES:
        for command in COMMANDS:
            for folder in (places["RUN"], places["OUT"]):
                shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(searched.run.path, places["RUN"])
            damage(places["RUN"] / name)
            answer = nas(*re.sub("RUN|OUT|RECIPE", lambda found: str(places[found[0]]), command).split())
            what = f"{damage.__name__}, nas {command}: {answer.err}"
            errors = [line for line in answer.err.splitlines() if line.startswith("error: ")]
            assert answer.code in (0, 2), what
            assert len(errors) == (answer.code == 2), what
            assert len(errors) == 0 or answer.err.endswith(f"{errors[0]}\n"), what  # nothing comes after it
            assert all(len(error) < 1200 for error in errors), what
