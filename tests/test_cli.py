"""The command line: tables and JSON of every command, and one line for bad input."""

import errno
import importlib
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import pandas as pd
import pytest
import torch
import typer
from conftest import BUDGET, TINY_YAML, Answer, Nas, assert_refused, make_device

import search_spaces
from hw_profiles.connections.local import Local
from hw_profiles.measuring.bundle import read_job
from hw_profiles.measuring.results import Results
from hw_profiles.store import ProfileStore
from nas.cli import main as cli
from nas.cli.demo_run import DemoResult
from nas.cli.output import BROKEN_PIPE, show
from nas.evaluation.trained_run import TrainedRun
from nas.export.export_run import export_subnets
from nas.report import final_test
from nas.runs.files import ARCHIVE_CSV, BASELINE, CHECKPOINTS, FRONT, REPORT, SPACE, SUPERNET
from nas.runs.run_dir import RunDir
from nas.training.checkpoint import Checkpoints

COMMANDS = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]


@pytest.fixture
def profiles(tmp_path: Path) -> Path:
    """A folder with the profile of a device for the tiny space, and one for another space."""
    store = ProfileStore(tmp_path / "profiles")
    store.save(make_device(search_spaces.parse(TINY_YAML).with_data(outputs=10, channels=1)))
    store.save(make_device(search_spaces.get("digits"), "elsewhere"))
    return store.directory


def content(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# ---------------------------------------------------------------------- help


def test_names_of_commands() -> None:
    names = "spaces describe train evaluate profile search pick export benchmark report demo import finetune"
    assert set(COMMANDS) == set(names.split())


@pytest.mark.parametrize("arguments", [(), ("--help",)])
def test_help_lists_every_command(nas: Nas, arguments: tuple[str, ...]) -> None:
    answer = nas(*arguments)
    assert answer.code == 0
    assert all(name in answer.out for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_has_a_help_text(nas: Nas, name: str) -> None:
    answer = nas(name, "--help")
    assert answer.code == 0
    assert COMMANDS[name].help.split(".")[0].split()[0] in answer.out
    for parameter in COMMANDS[name].params:
        assert parameter.help, f"{name}: {parameter.name} has no help"


def test_every_command_that_prints_results_has_json() -> None:
    without = {
        name for name, command in COMMANDS.items() if not any("--json" in p.opts for p in command.params)
    }
    assert without == {"train", "import", "finetune"}  # their result is the run


# ---------------------------------------------------------------------- results


def test_spaces(nas: Nas) -> None:
    rows = nas("spaces", "--json").json
    assert {row["space"]: row["subnets"] for row in rows} == {
        name: float(search_spaces.get(name).n_subnets) for name in search_spaces.names()
    }
    text = nas("spaces")
    assert text.code == 0
    assert all(name in text.out for name in search_spaces.names())


def test_describe_space_and_archs(nas: Nas, recipe: Path, tmp_path: Path) -> None:
    path = recipe.with_name("tiny.yaml")
    space = search_spaces.get(path)
    assert nas("describe", path, "--json").json["subnets"] == space.n_subnets
    assert "11 genes" in nas("describe", path).out
    for name, arch in (("largest", space.largest), ("smallest", space.smallest)):
        description = nas("describe", path, "--arch", name, "--json").json
        assert (description["arch_id"], description["macs"]) == (arch.id, space.macs(arch))
        assert sum(node["macs"] for node in description["nodes"]) == description["macs"]
    draws = [nas("describe", path, "--arch", "random", "--seed", i, "--json").json for i in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]
    text = nas("describe", path, "--arch", "random", "--seed", 1)
    assert f"bytes, in INT8 {draws[2]['int8_file_size_bytes']:,}" in text.out
    (tmp_path / "arch.json").write_text(text.out.splitlines()[-1])  # the printed JSON is a valid input
    assert nas("describe", path, "--arch", tmp_path / "arch.json", "--json").json == draws[2]


def test_train_then_evaluate_with_an_additional_metric(nas: Nas, recipe: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    trained = nas("train", "--config", recipe, "--out", run, "--set", "seed=3", "--resume")
    assert trained.code == 0
    assert f"next: nas evaluate {run}" in trained.out
    assert RunDir(run).info().seed == 3
    rows = nas("evaluate", run, "--json").json
    space = RunDir(run).space()
    assert [row["arch_id"] for row in rows] == [space.largest.id, space.smallest.id]
    more = nas("evaluate", run, "--samples", 2, "--arch", "largest", "--metric", "macro_f1", "--json").json
    assert len(more) == 3
    assert more[0] == rows[0] | {"macro_f1": more[0]["macro_f1"]}
    text = nas("evaluate", run, "--samples", 1)
    assert text.code == 0
    assert len(RunDir(run).read_csv(ARCHIVE_CSV)) == 4


@pytest.mark.slow
@pytest.mark.usefixtures("quick_search")
def test_search_export_benchmark_report(
    nas: Nas,
    trained: TrainedRun,
    profiles: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    run = trained.run.path
    options = ("--device", "desk", "--profiles", profiles, "--budget", BUDGET, "--predictor", "ridge")
    answer = nas("search", run, *options, "--json")
    front, cost = answer.json["front"], answer.json["cost"]
    assert [step["evaluations"] for step in cost["steps"]] == [BUDGET]
    assert f"search: {BUDGET} evaluations of 540 validation and 512 calibration images" in caplog.text
    assert [row["arch_id"] for row in front] == trained.run.search().read_csv(FRONT)["arch_id"].tolist()
    assert "next: nas export" in nas("search", run, *options).out

    (exported,) = nas("export", run, "--json").json
    by_name = nas("export", run, "--pick", exported["arch_id"], "--dynamic-batch", "--json").json
    assert by_name[0]["arch_id"] == exported["arch_id"]
    assert by_name[0]["file"] != exported["file"]  # the file of the device's batch stays
    assert len(nas("export", run, "--arch", "largest", "--arch", "smallest", "--json").json) == 2

    def quick(self: Local, bundle: Path, progress: object) -> Results:
        return Results.of_tool(read_job(bundle), {"model0": [1.5]}, "quick", 0.0)

    monkeypatch.setattr(Local, "measure", quick)
    (measured,) = nas("benchmark", exported["file"], "--json").json
    row = next(row for row in front if row["arch_id"] == exported["arch_id"])
    assert measured["latency_ms"] == 1.5
    assert measured["predicted_latency_ms"] == pytest.approx(row["latency_ms"])
    assert measured["device"] == "desk"

    partly = nas("benchmark", exported["file"], "none.onnx", "--json")
    assert (partly.code, [row["model"] for row in partly.json]) == (2, [exported["file"]])
    assert partly.err.splitlines()[-1] == "error: cannot read the model none.onnx: no such file"

    figures = nas("report", run, "--json").json
    assert {"figure", "value", "unit", "target", "met"} == set(figures[0])
    assert f"report: {RunDir(run).search().file(REPORT)}" in nas("report", run).out


def test_profile(nas: Nas, recipe: Path, profiles: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = recipe.with_name("tiny.yaml")
    monkeypatch.setattr(
        "nas.devices.profiling.profile_device", lambda space, name, *_, **__: make_device(space, name)
    )
    profile = nas("profile", path, "--device", "desk", "--profiles", profiles, "--json").json
    assert (profile["name"], profile["space"], profile["too_noisy"]) == ("desk", "tiny", False)
    text = nas("profile", path, "--device", "desk", "--profiles", profiles).out
    assert "MACs alone" in text
    assert "measuring again differs by 1.00%" in text


def test_profile_of_an_offline_device(nas: Nas, recipe: Path, profiles: Path, tmp_path: Path) -> None:
    space, there = recipe.with_name("tiny.yaml"), ("--device", "far", "--profiles", profiles)
    answer = nas("profile", space, *there, "--held-out", 8, "--bundle", tmp_path / "stick")
    assert answer.code == 0
    assert "ready to be copied" in answer.out
    assert (tmp_path / "stick" / "runner.py").is_file()
    (tmp_path / "results.json").write_text('{"schema_version": 2, "bun')
    wrong = nas("profile", space, *there, "--results", tmp_path / "results.json")
    assert wrong.code == 2
    assert "results.json" in wrong.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("--ssh", "pi@box", "--adb", "any"),
            "only one connection to a device can be given, got --ssh and --adb",
        ),
        (("--ssh", "pi@box:x"), "--ssh must be user@host or user@host:port"),
        (("--command", "trtexec"), "must contain {onnx} in the place of the model"),
        (("--command", "t {onnx}", "--latency-pattern", "("), "is not a regular expression"),
        (("--command", "t {onnx}", "--latency-pattern", "(.)", "--latency-unit", "h"), "unit must be one of"),
    ],
)
def test_invalid_connections(nas: Nas, recipe: Path, options: tuple[str, ...], message: str) -> None:
    answer = nas("profile", recipe.with_name("tiny.yaml"), "--device", "far", *options)
    assert answer.code == 2
    assert message in answer.err
    assert answer.err.count("\n") == 1


def test_benchmark_on_a_device_takes_its_settings(nas: Nas, profiles: Path, tmp_path: Path) -> None:
    answer = nas("benchmark", tmp_path / "m.onnx", "--device", "desk", "--profiles", profiles, "--threads", 2)
    assert answer.code == 2
    assert "no effect with --device: its profile defines how networks run" in answer.err


def test_missing_values_of_a_table_are_dashes(capsys: pytest.CaptureFixture[str]) -> None:
    show([{"latency_ms": 1.25, "measured_latency_ms": float("nan"), "device": None}], as_json=False)
    (row,) = [line for line in capsys.readouterr().out.splitlines() if "1.25" in line]
    assert row.split()[1::2] == ["1.25", "-", "-"]


def test_long_values_of_a_table_are_whole(capsys: pytest.CaptureFixture[str]) -> None:
    path = "/".join(map(str, range(100)))  # longer than a line
    show([{"file": path, "latency_ms": 1.25}], as_json=False)
    lines = [line.strip("│").partition("│")[0].strip() for line in capsys.readouterr().out.splitlines()]
    assert path in "".join(lines)


def test_demo(nas: Nas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures = [("test top-1", 98.0, "%", ">= 97"), ("strange", float("nan"), "", "")]
    subnets = pd.DataFrame({"arch_id": ["a"], "test_top1": [0.5]})
    result = DemoResult(subnets, figures, tmp_path / "report.html", 1.5)
    monkeypatch.setattr("nas.cli.demo_run.run_demo", lambda out, **_: result)
    assert nas("demo").out.splitlines()[-1] == f"report: {result.report}"
    answer = nas("demo", "--seed", 2, "--json")
    assert len(answer.out.splitlines()) == 1  # nothing else on standard output
    assert (answer.json["seed"], answer.json["chosen"]) == (2, [{"arch_id": "a", "test_top1": 0.5}])
    assert [(row["value"], row["met"]) for row in answer.json["figures"]] == [(98.0, True), (None, None)]


def test_demo_without_the_images_of_its_recipe(nas: Nas, tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "run"
    data.mkdir()
    answer = nas("demo", "--recipe", "fashion-mnist", "--data-root", data, "--out", out)
    assert_refused(answer, f"{data} does not contain train-images-idx3-ubyte")
    assert not out.exists()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="a POSIX shell")
def test_closed_and_full_standard_output() -> None:
    def run(redirection: str) -> tuple[int, str]:
        command = [sys.executable, "-c", "from nas.cli.main import main; main()", "describe", "digits"]
        script = f"{shlex.join(command)} {redirection}"
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
        return done.returncode, done.stderr

    assert run(">&-") == (0, "")
    assert run(">&- 2>&-") == (0, "")
    assert run("> >(exit)") in [(0, ""), (BROKEN_PIPE, "")]  # depends on when the reader ends
    if Path("/dev/full").exists():
        assert run("> /dev/full") == (2, "error: No space left on device\n")


# ---------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sing"], "No such command 'sing'"),
        (["--loud"], "No such option: --loud"),
        (["evaluate"], "Missing argument 'RUN'"),
        (["search", "run"], "Missing option '--device'"),
        (["describe", "digits", "--seed", "-1"], "Invalid value for '--seed'"),
        (["describe", "digit"], f"space must be one of {search_spaces.names()} or the path of a YAML file"),
        (["describe", "none.yaml"], "none.yaml"),
        (["describe", "digits", "--arch", "none.json"], "cannot read the arch file none.json"),
        (["train", "--config", "digit", "--out", "r"], "recipe must be one of"),
        (
            ["train", "--config", "digits", "--set", "epoch=3", "--out", "r"],
            "unknown key 'epoch' (did you mean 'epochs'?); the keys are schema_version, space, task, epochs",
        ),
        (["train", "--config", "digits", "--set", "epochs", "--out", "r"], "--set must look like key=value"),
        (
            ["train", "--config", "digits", "--set", "epochs=1", "--set", " epochs=2", "--out", "r"],
            "--set must have each name once, got 'epochs' twice; leave out one of them",
        ),
        (
            ["search", "r", "--device", "d", "--max", "macs=1", "--max", "macs=2"],
            "--max must have each name once, got 'macs' twice; leave out one of them",
        ),
        (
            ["train", "--config", "digits", "--set", "data.dataset=cats", "--out", "r"],
            "dataset must be one of",
        ),
        (["train", "--config", "digits", "--set", "space=cats", "--out", "r"], "space must be one of"),
        (["evaluate", "nowhere"], "nowhere is not a run directory"),
        (["report", "nowhere"], "nowhere is not a run directory"),
        (["export", "nowhere"], "nowhere is not a run directory"),
        (["profile", "digit", "--device", "d"], "space must be one of"),
        (["profile", "digits", "--device", "a/b"], "a device must have a name without path separators"),
        (["search", "nowhere", "--device", "pi9"], "no profile of the device 'pi9'"),
        (["benchmark", "none.onnx"], "none.onnx"),
        (["benchmark", "none.onnx", "--shape", "x"], "--shape must be NAME=DIM,DIM,..."),
        (["benchmark", ".", "none.onnx"], "cannot read the model .: it is a folder"),
        (["benchmark"], "Missing argument 'MODEL...'"),
    ],
)
def test_bad_input_gives_one_line_and_no_files(
    nas: Nas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert_refused(nas(*arguments), message)
    assert content(tmp_path) == {}


@pytest.mark.usefixtures("quick_search")
@pytest.mark.parametrize(
    ("command", "options", "message"),
    [
        ("evaluate", ["--metric", "fame"], "metric must be one of"),
        ("evaluate", ["--arch", "other.json"], "stem.width must be one of"),
        ("evaluate", ["--dataset", "cifar10"], "the data set must be the one of the run, 'digits'"),
        ("search", ["--device", "pi9"], "no profile of the device 'pi9'"),
        ("search", ["--device", "elsewhere"], "blocks of the space 'tiny'"),
        ("search", ["--device", "desk", "--objective", "fame"], "objective must be one of"),
        ("search", ["--device", "desk", "--objective", "latency_ms@pi9"], "one of the devices ['desk']"),
        ("search", ["--device", "desk", "--max", "latency_ms=1e-6"], "the closest one"),
        ("search", ["--device", "desk", "--min", "accuracy=2", "--budget", "10"], "reaches accuracy ="),
        ("search", ["--device", "desk", "--algorithm", "luck"], "search algorithm must be one of"),
        ("search", ["--device", "desk", "--predictor", "luck"], "predictor must be one of"),
        ("export", ["--pick", "knee"], "has no front yet"),
        ("export", ["--arch", "other.json"], "stem.width must be one of"),
        ("export", ["--arch", "largest", "--format", "tflite"], "format must be one of"),
    ],
)
def test_bad_options_give_one_line_and_leave_the_run_unchanged(
    nas: Nas,
    trained: TrainedRun,
    profiles: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    options: list[str],
    message: str,
) -> None:
    (tmp_path / "other.json").write_text(
        trained.space.largest.to_json().replace('"stem.width": 4', '"stem.width": 5')
    )
    monkeypatch.chdir(tmp_path)
    before = content(trained.run.path)
    extra = ["--profiles", profiles] if command == "search" else []
    answer = nas(command, trained.run.path, *options, *extra)
    progress = [line for line in answer.err.splitlines() if not line.startswith("error: ")]
    assert all(line.startswith("evaluate on validation") for line in progress)
    assert_refused(Answer(answer.code, answer.out, answer.err.splitlines()[-1] + "\n"), message)
    after = content(trained.run.path)
    assert {name: after[name] for name in before if name != "archive.sqlite"} == {
        name: data for name, data in before.items() if name != "archive.sqlite"
    }
    assert after.keys() - {"archive.sqlite"} == before.keys() - {"archive.sqlite"}


def test_message_of_an_unknown_pick_has_an_example_id(nas: Nas, searched: TrainedRun) -> None:
    arch_id = searched.run.search().read_csv(FRONT)["arch_id"][0]
    assert_refused(nas("export", searched.run.path, "--pick", "best"), f"ids of the front such as {arch_id}")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (MemoryError(), "not enough memory"),
        (MemoryError("no 9 GiB\nhere"), "not enough memory: no 9 GiB here"),
        (RuntimeError("CPU: can't allocate memory"), "not enough memory: CPU: can't allocate memory"),
        (RuntimeError("CUDA out of memory. Tried"), "not enough memory: CUDA out of memory. Tried"),
    ],
)
def test_lack_of_memory_is_one_line(
    nas: Nas, monkeypatch: pytest.MonkeyPatch, error: Exception, line: str
) -> None:
    def fail(name: str) -> NoReturn:
        raise error

    monkeypatch.setattr("nas.runs.open_space.open_space", fail)
    answer = nas("describe", "digits")
    assert (answer.code, answer.err) == (2, f"error: {line}\n")
    error = KeyError("bug")
    with pytest.raises(KeyError, match="bug"):
        nas("describe", "digits")


@pytest.mark.parametrize("position", [0, 1, 3])
def test_debug_anywhere_shows_the_traceback(monkeypatch: pytest.MonkeyPatch, position: int) -> None:
    arguments = ["describe", "digit", "--json"]
    arguments.insert(position, "--debug")
    monkeypatch.setattr(sys, "argv", ["nas", *arguments])
    with pytest.raises(ValueError, match="space must be one of"):
        cli.main()


# ---------------------------------------------------------------------- damaged and foreign runs


class Evil:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_a_checkpoint_that_would_execute_code_is_refused(nas: Nas, recipe: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert nas("train", "--config", recipe, "--out", run).code == 0
    RunDir(run).file(SUPERNET).unlink()  # like an interrupted training
    for path in Checkpoints(RunDir(run)).paths():
        torch.save({"step": Evil(tmp_path / "evil")}, path)
    answer = nas("train", "--config", recipe, "--out", run, "--resume")
    assert_refused(answer, "which could execute code")
    assert not (tmp_path / "evil").exists()
    assert not RunDir(run).has(SUPERNET)


def test_a_run_of_another_space_or_recipe_is_not_resumed(nas: Nas, trained: TrainedRun, recipe: Path) -> None:
    before = content(trained.run.path)
    answer = nas("train", "--config", recipe, "--out", trained.run.path, "--resume")
    assert_refused(answer, "changed since it was started; use another --out")
    assert_refused(nas("train", "--config", recipe, "--out", trained.run.path), "must be missing or empty")
    assert content(trained.run.path) == before


@pytest.mark.parametrize("command", ["evaluate", "export", "report"])
def test_damaged_weights_and_foreign_spaces_are_refused(nas: Nas, trained: TrainedRun, command: str) -> None:
    weights = trained.run.file(SUPERNET).read_bytes()
    trained.run.file(SUPERNET).write_bytes(weights[:-100])
    assert_refused(nas(command, trained.run.path), "is truncated or not a safetensors file")
    trained.run.file(SUPERNET).write_bytes(weights)
    trained.run.write_text(SPACE, search_spaces.get("digits").to_yaml())
    assert_refused(nas(command, trained.run.path), "does not fit the space of the run")


# ---------------------------------------------------------------------- disks


@contextmanager
def broken_disk(monkeypatch: pytest.MonkeyPatch, number: int) -> Iterator[None]:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", refuse)
        yield


@pytest.mark.parametrize(
    "number",
    [errno.ENOSPC, *(pytest.param(n, marks=pytest.mark.slow) for n in (errno.EROFS, errno.EACCES))],
)
def test_full_and_read_only_disks_give_one_line_and_leave_the_run_unchanged(
    nas: Nas,
    searched: TrainedRun,
    recipe: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
) -> None:
    monkeypatch.setattr(final_test, "N_RANDOM", 2)
    run = searched.run.path
    before = {k: v for k, v in content(run).items() if k != "archive.sqlite"}
    with broken_disk(monkeypatch, number):
        for arguments in (
            ("train", "--config", recipe, "--out", tmp_path / "new"),
            ("export", run, "--pick", "first"),
            ("report", run),
        ):
            answer = nas(*arguments)
            assert answer.code == 2
            error = answer.err.splitlines()[-1]
            assert error.startswith(f"error: {tmp_path}")
            assert error.endswith(f": {os.strerror(number)}")
            assert "Traceback" not in answer.err
    assert {k: v for k, v in content(run).items() if k != "archive.sqlite"} == before
    assert nas("export", run, "--pick", "first").code == 0


# ---------------------------------------------------------------------- Ctrl-C


@contextmanager
def interrupted(monkeypatch: pytest.MonkeyPatch, at: int) -> Iterator[None]:
    """Press Ctrl-C at call number `at` of the progress function."""
    calls = 0

    @contextmanager
    def shown(every: int | None = None) -> Iterator[Callable[[str, int, int], None]]:
        def progress(description: str, done: int, total: int) -> None:
            nonlocal calls
            calls += 1
            if calls == at:
                signal.raise_signal(signal.SIGINT)

        yield progress

    with monkeypatch.context() as patch:
        patch.setattr("nas.progress.shown", shown)
        yield


def assert_stopped(answer: Answer) -> None:
    assert answer.code == 130
    assert answer.err.count("\n") == 1
    assert answer.err.startswith("stopped; finished work is saved")
    assert answer.out == ""


def test_interrupted_training_is_resumed(
    nas: Nas, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nas("train", "--config", recipe, "--out", tmp_path / "undisturbed")
    command = ("train", "--config", recipe, "--out", tmp_path / "run", "--resume")
    with interrupted(monkeypatch, 2):
        assert_stopped(nas(*command))
    assert (tmp_path / "run" / CHECKPOINTS).exists()
    assert nas(*command).code == 0
    weights = [(tmp_path / name / SUPERNET).read_bytes() for name in ("run", "undisturbed")]
    assert weights[0] == weights[1]


def test_interrupted_evaluation_is_continued(
    nas: Nas, trained: TrainedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nas.evaluation.evaluate.GROUP", 2)
    command = ("evaluate", trained.run.path, "--samples", 6, "--json")
    with interrupted(monkeypatch, 3):
        assert_stopped(nas(*command))
    before = trained.archive.frame()
    assert len(before) == 4  # two groups
    rows = {row["arch_id"]: row for row in nas(*command).json}
    assert len(rows) == 6
    assert len(trained.archive.frame()) == 6
    assert [rows[i]["cross_entropy"] for i in before["arch_id"]] == before["cross_entropy"].tolist()


@pytest.mark.slow
@pytest.mark.usefixtures("quick_search")
def test_interrupted_search_is_continued(
    nas: Nas, trained: TrainedRun, searched: TrainedRun, profiles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = ("--device", "desk", "--profiles", profiles)
    options = (*profile, "--budget", BUDGET, "--predictor", "ridge", "--baseline", "random")
    for at in (5, BUDGET + 2):
        with interrupted(monkeypatch, at):
            assert_stopped(nas("search", trained.run.path, *options))
        assert (trained.run.last_device is None) == (at < BUDGET)
    assert not trained.run.search().has(BASELINE)  # the front is written before the baseline
    assert nas("search", trained.run.path, *options).code == 0
    assert trained.run.search().has(BASELINE)
    assert trained.run.search().file(FRONT).read_bytes() == searched.run.search().file(FRONT).read_bytes()


# ---------------------------------------------------------------------- custom code


@pytest.fixture
def own_metric(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A custom metric in the current folder."""
    (tmp_path / "own_metric.py").write_text(
        "from nas.tasks.metrics import SplitMetric\n"
        "def ones(outputs, targets):\n"
        "    return 1\n"
        "one = SplitMetric('one', 'max', '', ones)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    importlib.invalidate_caches()
    yield "own_metric:one"
    sys.modules.pop("own_metric", None)


def test_evaluate_with_a_custom_metric(nas: Nas, trained: TrainedRun, own_metric: str) -> None:
    (row,) = nas("evaluate", trained.run.path, "--arch", "largest", "--metric", own_metric, "--json").json
    assert row[own_metric] == 1.0
    assert_refused(
        nas("evaluate", trained.run.path, "--metric", "own_metric:two"), "cannot import the metric"
    )


def test_exported_file_of_a_search_is_found_by_name(nas: Nas, searched: TrainedRun) -> None:
    expected = [str(file.path) for file in export_subnets(searched, "spread")]
    assert [
        row["file"] for row in nas("export", searched.run.path, "--pick", "spread", "--json").json
    ] == expected


# ---------------------------------------------------------------------- read-only runs


@pytest.mark.slow
def test_run_on_a_read_only_mount_is_read(
    nas: Nas,
    searched: TrainedRun,
    profiles: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(final_test, "N_RANDOM", 2)
    run, access = searched.run.path, os.access

    def read_only(path: Path, mode: int) -> bool:
        return access(path, mode) and not (mode & os.W_OK and Path(path).is_relative_to(run))

    before = content(run)
    monkeypatch.setattr(os, "access", read_only)
    archived = nas("evaluate", run, "--json")
    new = nas("evaluate", run, "--samples", 2, "--seed", 5, "--json")
    assert len(archived.json) == 2
    assert len(new.json) == 2
    assert "new evaluations are not stored" in caplog.text
    assert nas("pick", run, "--device", "desk", "--profiles", profiles, "--json").json
    assert nas("describe", run / "space.yaml", "--json").code == 0
    for command, pages in (("report", {"report.html"}), ("export", {".onnx", ".json"})):
        assert_refused(nas(command, run), "writable folder; give another folder with --out")
        assert nas(command, run, "--out", tmp_path / "out" / command, "--json").code == 0
        written = content(tmp_path / "out" / command)
        assert all(any(name.endswith(page) for name in written) for page in pages)
    options = ("--device", "desk", "--profiles", profiles, "--budget", BUDGET)
    assert_refused(nas("search", run, *options), "writable folder; copy the run")
    assert content(run) == before
