"""Damaged files of a run end every command in one line, never in a traceback."""

import json
import re
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from conftest import Nas

from nas.evaluation.trained_run import TrainedRun

DESCRIBE = "describe RUN"
PICK = "pick RUN"
EVALUATE = "evaluate RUN --arch smallest"
EXPORT = "export RUN --pick first"
REPORT = "report RUN"
INIT = "train --config RECIPE --out OUT --init RUN"
RESUME = "train --config RUN/recipe.yaml --out RUN --resume"

ALL = (DESCRIBE, PICK, EVALUATE, EXPORT, REPORT, INIT, RESUME)
OF_SEARCH = (PICK, EXPORT, REPORT)


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


DAMAGES: tuple[Callable[[Path], None], ...] = (
    truncate,
    replace_by_folder,
    fill_with_noise,
    leave_nothing_expected,
    change_types,
    Path.unlink,
)
READERS = {
    "run.json": ALL,
    "space.yaml": ALL,
    "recipe.yaml": (RESUME,),
    "supernet.safetensors": (EVALUATE, EXPORT, INIT, RESUME),
    "checkpoints/step_000000014.pt": (RESUME, INIT),
    "archive.sqlite": (EVALUATE, EXPORT, REPORT),
    "archive.csv": (EVALUATE,),
    "training.csv": (REPORT, RESUME),
    "speed.csv": (RESUME, REPORT),
    "last_search.json": OF_SEARCH,
    "profiles/desk/profile.json": OF_SEARCH,
    "profiles/desk/space.yaml": OF_SEARCH,
    "profiles/desk/table.csv": OF_SEARCH,
    "profiles/desk/boundaries.csv": OF_SEARCH,
    "profiles/desk/fitted.csv": OF_SEARCH,
    "profiles/desk/held_out.csv": OF_SEARCH,
    "searches/desk/search.json": OF_SEARCH,
    "searches/desk/surrogate.json": (PICK,),
    "searches/desk/predictor.json": (REPORT,),
    "searches/desk/predictions.csv": (REPORT,),
    "searches/desk/front.csv": OF_SEARCH,
    "searches/desk/baseline.csv": (REPORT,),
    "searches/desk/search.csv": (REPORT,),
}
"""The commands that read or write a file of a run."""


def cases(name: str) -> list[tuple[Callable[[Path], None], str]]:
    """Every damage and every command that reads the file, each at least once."""
    commands = READERS[name]
    n = max(len(DAMAGES), len(commands))
    return [(DAMAGES[i % len(DAMAGES)], commands[i % len(commands)]) for i in range(n)]


def test_every_file_of_a_run_is_tried(searched: TrainedRun) -> None:
    run = searched.run.path
    assert {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()} == set(READERS)


@pytest.mark.slow
@pytest.mark.usefixtures("quick_search")
@pytest.mark.parametrize("name", READERS)
def test_a_damaged_file_is_one_line(
    nas: Nas, searched: TrainedRun, recipe: Path, tmp_path: Path, name: str
) -> None:
    places = {"RUN": tmp_path / "run", "OUT": tmp_path / "out", "RECIPE": recipe}
    for damage, command in cases(name):
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
