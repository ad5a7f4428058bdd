"""Names in files from others are never imported by the commands that read them."""

import json
import re
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Nas, assert_refused, make_device

from hw_profiles.store import ProfileStore
from nas.evaluation.trained_run import TrainedRun
from nas.runs.files import CHECKPOINTS, SUPERNET

NAME = "payload:f"
DEVICE = "--device desk --profiles PROFILES"
DESCRIBE = "describe RUN"
EVALUATE = "evaluate RUN"
SEARCH = f"search RUN {DEVICE} --budget 20 --predictor ridge"
WARM_START = f"{SEARCH} --warm-start RUN"
PICK = f"pick RUN {DEVICE}"
EXPORT = "export RUN"
EXPORT_INT8 = "export RUN --arch smallest --precision int8"
REPORT = "report RUN"
CHECK = f"profile digits {DEVICE} --check"
BENCHMARK = f"benchmark MODEL {DEVICE}"
RESUME = "train --config RUN/recipe.yaml --out RUN --resume"
REPEAT = "train --config RUN/recipe.yaml --out OUT"
INIT = "train --config RECIPE --out OUT --init RUN"
TEACH = 'train --config RECIPE --out OUT --set distillation.kind=external --set distillation.teachers=["RUN"]'
FINETUNE = "finetune RUN --arch smallest --config RECIPE --out OUT"
FINETUNE_AGAIN = "finetune RUN --arch smallest --config RUN/recipe.yaml --out OUT"
IMPORT = "import ofa RUN/checkpoints/step_000000001.pt --space ofa-mbv3-w1.0 --out OUT"

# the commands that read a kind of file
OF_WEIGHTS = (DESCRIBE, EVALUATE, EXPORT, RESUME, INIT, TEACH, FINETUNE, IMPORT)
OF_RUN = (DESCRIBE, EVALUATE, SEARCH, PICK, EXPORT, EXPORT_INT8, REPORT, RESUME, INIT, TEACH, FINETUNE)
OF_RECIPE = (RESUME, REPEAT, FINETUNE_AGAIN)
OF_ARCHIVE = (EVALUATE, SEARCH, EXPORT, REPORT)
OF_SEARCH = (PICK, EXPORT, REPORT)
OF_PROFILE = (SEARCH, PICK, EXPORT_INT8, REPORT, CHECK, BENCHMARK)
OF_TABLES = (WARM_START, *OF_SEARCH)

Hostile = Callable[[Path], None]
"""Writes the payload into files of a folder."""


def in_json(file: str, change: Callable[[Any], Any]) -> Hostile:
    """Change the content of every JSON file with this name."""

    def put(folder: Path) -> None:
        for path in folder.rglob(file):
            path.write_text(json.dumps(change(json.loads(path.read_text()))))

    return put


def in_text(file: str, pattern: str, text: str) -> Hostile:
    """Replace the matches of a pattern in every text file with this name."""

    def put(folder: Path) -> None:
        for path in folder.rglob(file):
            path.write_text(re.sub(pattern, text, path.read_text(), flags=re.MULTILINE))

    return put


class _Payload:
    def __reduce__(self) -> tuple[Any, ...]:
        return __import__, ("payload",)


def in_checkpoint(folder: Path) -> None:
    """A malicious checkpoint of an unfinished training, with the payload in names and pickled objects."""
    for weights in folder.rglob(SUPERNET):
        weights.unlink()
        (weights.parent / CHECKPOINTS).mkdir(exist_ok=True)
        content = {"schema_version": 1, "step": 1, NAME: 1, "supernet": {NAME: torch.zeros(1)}}
        torch.save(content | {"sampler": _Payload()}, weights.parent / CHECKPOINTS / "step_000000001.pt")


def in_archive(folder: Path) -> None:
    """Rename a metric of the archive to the payload."""
    for path in folder.rglob("archive.sqlite"):
        with sqlite3.connect(path) as database:
            database.execute("UPDATE evaluations SET metrics = replace(metrics, 'top1', ?)", (NAME,))
        database.close()


RECORDED: dict[str, Hostile] = {
    "data set": in_json("run.json", lambda run: run | {"dataset": NAME}),
    "space": in_json("run.json", lambda run: run | {"space": NAME}),
    "objectives": in_json("search.json", lambda record: record | {"objectives": [NAME, "latency_ms"]}),
    "metric": in_json("search.json", lambda record: record | {"objectives": ["cross_entropy", NAME]}),
    "own objectives": in_json(
        "search.json", lambda r: r | {"objectives": ["mine", "latency_ms"], "own_objectives": {"mine": NAME}}
    ),
    "algorithm": in_json("search.json", lambda record: record | {"algorithm": NAME}),
    "predictors": in_json(
        "search.json", lambda record: record | {"predictors": {NAME: [{"predictor": NAME}]}}
    ),
    "limits": in_json("search.json", lambda record: record | {"constraints": [f"{NAME} <= 3"]}),
    "device": in_json("search.json", lambda record: record | {"device": NAME}),
    "predictor": in_json("predictor.json", lambda record: record | {"name": NAME}),
    "surrogate": in_json("surrogate.json", lambda s: s | {"metrics": {NAME: s["metrics"]["top1"]}}),
    "recipe's data set": in_text("searched/recipe.yaml", "dataset: .*", f"dataset: {NAME}"),
    "recipe's sampler": in_text("searched/recipe.yaml", "kind: sandwich\n  n_random: .*", f"kind: {NAME}"),
    "recipe's space": in_text("searched/recipe.yaml", "^space: .*", f"space: {NAME}"),
    "name of the space": in_text("space.yaml", "^name: .*", f"name: '{NAME}'"),
    "profile's space": in_json("profile.json", lambda profile: profile | {"space": NAME}),
    "profile's model": in_json("profile.json", lambda profile: profile | {"latency_model": NAME}),
    "profile's key": in_json("profile.json", lambda p: p | {"key": p["key"] | {"provider": NAME}}),
    "columns of tables": in_text("*.csv", "cross_entropy|top1", NAME),
    "metrics of the archive": in_archive,
    "checkpoint": in_checkpoint,
}

READERS = {
    "data set": OF_RUN,
    "space": OF_RUN,
    "objectives": OF_SEARCH,
    "metric": OF_SEARCH,
    "own objectives": OF_SEARCH,
    "algorithm": OF_SEARCH,
    "predictors": OF_SEARCH,
    "limits": OF_SEARCH,
    "device": (*OF_SEARCH, EXPORT_INT8),
    "predictor": (REPORT,),
    "surrogate": (PICK,),
    "recipe's data set": OF_RECIPE,
    "recipe's sampler": OF_RECIPE,
    "recipe's space": OF_RECIPE,
    "name of the space": (*OF_RUN, CHECK),
    "profile's space": OF_PROFILE,
    "profile's model": OF_PROFILE,
    "profile's key": OF_PROFILE,
    "columns of tables": OF_TABLES,
    "metrics of the archive": OF_ARCHIVE,
    "checkpoint": OF_WEIGHTS,
}
"""Commands that read a name of `RECORDED`."""


@pytest.fixture
def files(
    searched: TrainedRun, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """The current folder, with a searched run, the profile of a device, and code that must not run."""
    ProfileStore(tmp_path / "profiles").save(make_device(searched.space))
    (tmp_path / "payload.py").write_text(
        "from pathlib import Path\nPath(__file__).with_name('IMPORTED').touch()\ndef f(*args): return None\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])  # so that the code can be imported
    yield tmp_path
    sys.modules.pop("payload", None)


def call(nas: Nas, command: str, folder: Path) -> None:
    """Run a command on the files of a folder; it may fail."""
    places = {
        "RUN": folder / "searched",
        "PROFILES": folder / "profiles",
        "RECIPE": folder / "recipe.yaml",
        "MODEL": folder / "model.onnx",
        "OUT": folder / "out",
    }
    text = re.sub("|".join(places), lambda match: str(places[match[0]]), command)
    nas(*text.split())
    assert "payload" not in sys.modules, command
    assert not (folder / "IMPORTED").exists(), command


@pytest.mark.slow
@pytest.mark.usefixtures("quick_search")
@pytest.mark.parametrize("name", RECORDED)
def test_no_command_imports_a_name_in_a_file(nas: Nas, files: Path, tmp_path: Path, name: str) -> None:
    for i, command in enumerate(READERS[name]):
        folder = tmp_path / str(i)
        shutil.copytree(files / "searched", folder / "searched")
        shutil.copytree(files / "profiles", folder / "profiles")
        shutil.copy(files / "recipe.yaml", folder)
        before = content(folder)
        RECORDED[name](folder)
        assert content(folder) != before, "the test changes nothing"
        call(nas, command, folder)


def content(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_programs_named_in_the_profile_of_a_run_are_not_started(nas: Nas, files: Path) -> None:
    run, own = files / "searched", ProfileStore().directory
    tool = {"kind": "command", "tool": {"template": f"touch {files / 'IMPORTED'} {{onnx}}", "retries": 0}}
    in_json("profile.json", lambda profile: profile | {"connection": tool})(run)
    for command in (
        ("search", run, "--device", "desk", "--budget", 20, "--predictor", "ridge"),
        ("export", run, "--arch", "smallest", "--precision", "int8"),
    ):
        answer = nas(*command)
        assert answer.code == 2
        assert "the run's copy of the profile 'desk' starts programs (command)" in answer.err
        assert not (files / "IMPORTED").exists()
    shutil.copytree(run / "profiles" / "desk", own / "desk")  # the remedy
    assert "latency" in nas(*command).err
    assert (files / "IMPORTED").exists()


@pytest.mark.usefixtures("quick_search")
def test_names_in_a_run_are_errors_unless_they_are_allowed(nas: Nas, files: Path) -> None:
    run = files / "searched"
    RECORDED["objectives"](run)
    pick = ("pick", run, "--device", "desk", "--profiles", files / "profiles")
    assert_refused(nas(*pick), f"the objective '{NAME}' is custom code")
    for name in ("recipe's data set", "data set"):
        RECORDED[name](files)
    for command in (
        ("evaluate", run),
        ("train", "--config", run / "recipe.yaml", "--out", files / "out"),
        ("finetune", run, "--arch", "smallest", "--config", run / "recipe.yaml", "--out", files / "out"),
    ):
        assert_refused(nas(*command), f"the dataset '{NAME}' is custom code")
        assert "payload" not in sys.modules
        nas(*command, "--allow-import")
        assert sys.modules.pop("payload")
