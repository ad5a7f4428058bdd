import ast
import gc
import itertools
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from bundles import TRIALS, ignore, make_bundle
from hypothesis import given
from hypothesis import strategies as st

from hw_profiles.connections.local import Local
from hw_profiles.connections.process import Progress
from hw_profiles.measuring.bundle import read_job
from hw_profiles.measuring.output_check import check_outputs
from hw_profiles.measuring.results import Results, read_results
from hw_profiles.measuring.runner import affinity, process_limits, speed_probe
from hw_profiles.measuring.runner import model as model_module
from hw_profiles.measuring.runner.affinity import CORES
from hw_profiles.measuring.runner.alone import time_alone
from hw_profiles.measuring.runner.bundle import Bundle
from hw_profiles.measuring.runner.bundle_files import JOB as JOB_FILE
from hw_profiles.measuring.runner.bundle_files import LOCK, RESULTS
from hw_profiles.measuring.runner.bundle_files import TRIALS as JOURNAL
from hw_profiles.measuring.runner.command_line import main
from hw_profiles.measuring.runner.errors import RunnerError
from hw_profiles.measuring.runner.estimator import (
    MIN_RUNS,
    SESSION_SECONDS,
    drift,
    enough_runs,
    fastest_run_ms,
    robust_ms,
    split_half,
)
from hw_profiles.measuring.runner.inputs import bind, random_inputs
from hw_profiles.measuring.runner.lock import locked
from hw_profiles.measuring.runner.model import WARM_UP_RUNS, Model
from hw_profiles.measuring.runner.speed_probe import speed_probe_ms, wait_until_steady
from hw_profiles.measuring.runner.weights import write_weights
from hw_profiles.measuring.runner_file import MODULES, RUNNER, runner_source
from hw_profiles.run_settings import RunSettings

JOB = RunSettings().model_dump()


def run_bundle(bundle: Path, progress: Progress = ignore) -> Results:
    return Local().measure(bundle, progress)


def read(bundle: Path) -> Results:
    return read_results(bundle / RESULTS, read_job(bundle))


@pytest.fixture(scope="module")
def _measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    bundle = make_bundle(tmp_path_factory.mktemp("measured") / "bundle")
    run_bundle(bundle)
    return bundle


@pytest.fixture
def measured(_measured: Path, tmp_path: Path) -> Path:
    """A bundle whose trials are finished, which the test may write to."""
    return Path(shutil.copytree(_measured, tmp_path / "measured"))


def test_runs_on_old_pythons() -> None:
    ast.parse(runner_source(), feature_version=(3, 8))


def test_bundle_is_measured_by_the_file_alone(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    copied = shutil.move(bundle / RUNNER, tmp_path / "device_runner.py")
    done = subprocess.run(
        [sys.executable, "-I", copied, "bundle"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    results = read(bundle)
    assert {name: len(ms) for name, ms in results.trials_ms.items()} == {
        "small": 4,
        "big": 4,
        "net": 1,
        "sentinel": 8,
    }
    assert all(ms > 0 for trials in results.trials_ms.values() for ms in trials)
    assert results.device["version"] == onnxruntime.__version__
    assert done.stdout.splitlines()[-1] == f"{TRIALS} {TRIALS}"


def test_where_a_model_runs_is_checked_at_its_first_trial(tmp_path: Path) -> None:
    folder = make_bundle(tmp_path / "bundle")
    job = json.loads((folder / JOB_FILE).read_text()) | {"precision": "int8"}  # its models are fp32
    (folder / JOB_FILE).write_text(json.dumps(job))
    bundle = Bundle(str(folder), str(folder / RUNNER))
    assert bundle.models["net"]["alone"]
    with pytest.raises(RunnerError, match=r"does not compute in int8: .* computed in float"):
        bundle.trial("net", 0, float("inf"))
    assert bundle.trial("net", 1, float("inf"))["ms"] > 0


@pytest.mark.parametrize("cut", [0, 40])
def test_killed_runner_goes_on_after_the_last_whole_trial(measured: Path, cut: int) -> None:
    bundle, journal = measured, measured / JOURNAL
    lines = journal.read_text().splitlines(keepends=True)
    kept = lines[:8]  # the outputs of one model and seven trials
    journal.write_text("".join(kept) + lines[8][:cut])  # killed while it wrote the next trial
    (bundle / RESULTS).unlink()
    progress: list[tuple[int, int]] = []
    run_bundle(bundle, lambda done, total: progress.append((done, total)))
    after = journal.read_text().splitlines(keepends=True)
    assert after[:8] == kept
    trials = [json.loads(line) for line in after]
    assert max(Counter((v["model"], v["index"]) for v in trials).values()) == 1
    assert len(trials) == len(lines)
    assert progress[0] == (8, TRIALS)  # nothing finished was measured again
    assert sum(map(len, read(bundle).trials_ms.values())) == TRIALS


def test_killed_at_random_moments_nothing_is_lost_or_measured_twice(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    journal, rng = bundle / JOURNAL, random.Random(0)
    finished: set[str] = set()
    for kill in range(3):
        wanted = rng.randrange(kill * TRIALS // 4, (kill + 1) * TRIALS // 4)  # trials before this kill
        with subprocess.Popen(
            [sys.executable, bundle / RUNNER, bundle], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if int(line.split()[0]) >= wanted:
                    break
            time.sleep(rng.uniform(0, 0.01))
            process.kill()
        lines = journal.read_text().splitlines(keepends=True)
        finished |= {line for line in lines if line.endswith("\n")}
    run_bundle(bundle)
    after = journal.read_text().splitlines(keepends=True)
    assert finished
    assert finished <= set(after)
    trials = [json.loads(line) for line in after]
    times = Counter((trial["model"], trial["index"]) for trial in trials)
    assert max(times.values()) == 1
    assert len(times) == TRIALS + 1  # and the outputs of one model
    assert set(read(bundle).latency_ms) == {"small", "big", "net", "sentinel"}


def test_garbage_after_a_power_cut_is_dropped(measured: Path) -> None:
    bundle, journal = measured, measured / JOURNAL
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:5]) + b"\0" * 40 + b"\n" + b"".join(lines[5:]))
    run_bundle(bundle)
    assert journal.read_bytes().splitlines(keepends=True)[:5] == lines[:5]
    assert len(journal.read_bytes().splitlines()) == len(lines)


def test_second_runner_in_a_folder_is_refused(measured: Path) -> None:
    refused = pytest.raises(ValueError, match=r"another runner is measuring in .*measured; wait for its end")
    with locked(str(measured / LOCK)), refused:
        run_bundle(measured)
    run_bundle(measured)


def test_outputs_are_those_of_this_machine(measured: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle, results = measured, read(measured)
    check_outputs(bundle, results)
    assert np.shape(results.outputs["net"]) == (8, 8 * 4 * 4)  # 8 images; 8 channels of 4 by 4
    wrong = {"net": (1.01 * np.array(results.outputs["net"])).tolist()}
    with pytest.raises(
        ValueError, match=r"computes wrong outputs for net: .* by 0\.01 of their norm, 0\.001 is"
    ):
        check_outputs(bundle, results.model_copy(update={"outputs": wrong}))
    nothing = {"net": np.full((8, 128), np.nan).tolist()}
    with pytest.raises(ValueError, match="computes wrong outputs for net"):
        check_outputs(bundle, results.model_copy(update={"outputs": nothing}))
    # a model whose outputs are NaN here, or all zero, as other people's may be on noise
    zero = np.zeros((8, 128)).tolist()
    for here, there in ((nothing["net"], nothing["net"]), (nothing["net"], zero), (zero, zero)):
        monkeypatch.setattr(Bundle, "outputs", lambda self, name, here=here: {"outputs": here})
        check_outputs(bundle, results.model_copy(update={"outputs": {"net": there}}))


def test_slow_models_take_bounded_time() -> None:
    # a model of 0.2 s: no more than a few runs a session once its time is over
    assert not enough_runs(2, 0.4, SESSION_SECONDS)
    assert enough_runs(3, 0.6, SESSION_SECONDS)
    # a model of 1 ms: as many as ever
    assert not enough_runs(9, 0.02, SESSION_SECONDS)
    assert enough_runs(10, 0.02, SESSION_SECONDS)


def test_cpu_time_is_never_taken_with_more_threads(tmp_path: Path) -> None:
    path = str(make_bundle(tmp_path / "bundle") / "models/net.onnx")
    assert Model(path, JOB).clock is time.thread_time_ns
    assert Model(path, JOB | {"threads": 2}).clock is time.perf_counter_ns


def test_weights_made_on_the_device_have_the_scale_they_should(tmp_path: Path) -> None:
    regions = [
        {"dtype": "float32", "scale": 0.5, "offset": 0, "count": 4000},
        {"dtype": "int8", "scale": 60.0, "offset": 16384, "count": 4000},
    ]
    write_weights(str(tmp_path / "w"), {"seed": 0, "regions": regions})
    floats = np.fromfile(tmp_path / "w", np.float32, 4000)
    # the standard deviation of n draws is known to 1 / sqrt(2 n) = 1.1 %
    assert floats.std() == pytest.approx(0.5, rel=0.05)
    integers = np.fromfile(tmp_path / "w", np.int8, 4000, offset=16384)
    assert integers.std() == pytest.approx(60, rel=0.1)  # clipped at 127, beyond 2.1 deviations
    assert integers.max() == 127


def test_onnxruntime_too_old_for_the_opset(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    path = bundle / "models/net.onnx"
    model = onnx.load(path, load_external_data=False)
    model.opset_import[0].version = 99  # every released onnxruntime is too old for it
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ValueError, match=r"too old for .*net\.onnx.*pip install --upgrade onnxruntime"):
        run_bundle(bundle)


def test_journal_of_another_bundle_is_refused(measured: Path, tmp_path: Path) -> None:
    second = make_bundle(tmp_path / "second", seed=1)
    shutil.copy(measured / JOURNAL, second)
    with pytest.raises(ValueError, match=r"trials\.jsonl must contain trials of this bundle .*remove it"):
        run_bundle(second)


def test_results_of_another_bundle_are_refused(measured: Path, tmp_path: Path) -> None:
    second = make_bundle(tmp_path / "second", seed=1)
    shutil.copy(measured / RESULTS, second)
    with pytest.raises(ValueError, match="results of another bundle"):
        read(second)


def test_truncated_results_are_refused(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "a")
    (bundle / RESULTS).write_text('{"schema_version": 1, "bun')
    with pytest.raises(ValueError, match=r"results\.json"):
        read(bundle)
    (bundle / RESULTS).unlink()
    with pytest.raises(ValueError, match="run the bundle's runner again"):
        read(bundle)


def test_equal_bundle_keeps_its_trials_and_another_one_replaces_them(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "a")
    (bundle / JOURNAL).write_text("")
    make_bundle(bundle)
    assert (bundle / JOURNAL).exists()
    make_bundle(bundle, seed=1)
    assert not (bundle / JOURNAL).exists()


def test_rounds_spread_over_the_time(tmp_path: Path) -> None:
    plan = Bundle(str(make_bundle(tmp_path / "a"))).plan()
    assert Counter(name for name, _ in plan) == {"small": 4, "big": 4, "net": 1, "sentinel": 8}
    for name in ("small", "big", "sentinel"):
        trials = [r for other, r in plan if other == name]
        assert trials == sorted(trials)
    # between two trials of a model lie at most 2 of its trials, in which the sentinel (8 trials to its 4) is
    # measured at most 2 * 8/4 + 1 times
    where = [i for i, (name, _) in enumerate(plan) if name == "small"]
    for start, end in itertools.pairwise(where):
        assert sum(name == "sentinel" for name, _ in plan[start:end]) <= 5
    assert plan == Bundle(str(tmp_path / "a")).plan()


@pytest.mark.parametrize("job", ['{"id": ', ""])
def test_truncated_job_is_refused(tmp_path: Path, job: str) -> None:
    (tmp_path / "job.json").write_text(job)
    with pytest.raises(RunnerError, match=r"cannot read .*job\.json"):
        Bundle(str(tmp_path))


def test_missing_bundle_is_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main([str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@given(
    quiet=st.lists(st.floats(1.0, 1.01), min_size=4, max_size=4),
    busy=st.lists(st.floats(1.01, 9.0), max_size=8),
)
def test_robust_figure_ignores_disturbed_sessions(quiet: list[float], busy: list[float]) -> None:
    # the quartile of n = 4..12 values lies at index (n - 1) / 4 <= 2.75, inside the 4 quiet ones
    assert 1.0 <= robust_ms(quiet + busy) <= 1.01


class TwoSpeeds(Bundle):
    """A machine on which every trial of the first trials falls into a slow moment, 1.8 times as slow."""

    n_slow = 0

    def trial(self, name: str, index: int, best_speed_probe_ms: float) -> dict[str, Any]:
        slowness = 1.8 if self.n_slow > 0 else 1.0
        self.n_slow -= 1
        figures = {"latency_ms": slowness, "min_ms": 1, "median_ms": 1, "p90_ms": 1, "runs": 1}
        alone = {"alone": figures} if self.models[name]["alone"] else {}
        return {"ms": slowness, "speed_probe_ms": 0.05 * slowness, "throttled": 0, **alone}


@pytest.mark.parametrize(("n_slow", "repeats", "n_trials"), [(0, 1.0, 17), (9, 1.0, 26), (9, 0.0, 17)])
def test_trials_at_slow_moments_are_repeated(
    tmp_path: Path, n_slow: int, repeats: float, n_trials: int
) -> None:
    bundle = TwoSpeeds(str(make_bundle(tmp_path / "bundle", repeats=repeats)))
    bundle.n_slow = n_slow
    bundle.run(0)
    results = read(tmp_path / "bundle")
    lines = (tmp_path / "bundle" / JOURNAL).read_text().splitlines()
    assert len(lines) == n_trials + 1  # and the outputs of one model
    assert {name: len(ms) for name, ms in results.trials_ms.items()} == {
        "small": 4,
        "big": 4,
        "net": 1,
        "sentinel": 8,
    }
    # without repetitions, what models saw at steady moments still counts alone, where they have seen some
    assert all(results.latency_ms[name] == 1.0 for name in ("small", "big", "sentinel"))
    assert results.slow_share == pytest.approx(0 if repeats else n_slow / TRIALS)


def test_machine_that_is_never_steady_counts_as_it_is(tmp_path: Path) -> None:
    bundle = TwoSpeeds(str(make_bundle(tmp_path / "bundle")))
    bundle.n_slow = TRIALS - 1  # all but the last trial
    bundle.run(0)
    results = read(tmp_path / "bundle")
    assert sorted(results.latency_ms.values()) == pytest.approx([1.8] * 4)
    assert results.slow_share == pytest.approx(1 - 1 / TRIALS)
    assert len(results.always_slow) == 3
    assert results.best_speed_probe_ms == pytest.approx(0.05)


def test_slow_moments_are_known_by_an_earlier_gauge(tmp_path: Path) -> None:
    """Alone, a bundle that meets slow moments from first to last cannot tell."""
    bundle = make_bundle(tmp_path / "unaware")
    (aware := tmp_path / "aware").mkdir()
    shutil.copytree(bundle, aware, dirs_exist_ok=True)
    job = json.loads((aware / "job.json").read_text()) | {"best_speed_probe_ms": 0.05}
    (aware / "job.json").write_text(json.dumps(job))
    for folder, expected in ((bundle, []), (aware, ["big", "net", "sentinel", "small"])):
        slow = TwoSpeeds(str(folder))
        slow.n_slow = 2 * TRIALS
        slow.run(0)
        assert sorted(read(folder).always_slow) == expected


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="affinity of Linux")
@pytest.mark.parametrize("threads", [1, len(CORES), len(CORES) + 1])
def test_gauge_leaves_the_cores_as_they_were(threads: int) -> None:
    assert speed_probe_ms(threads) > 0
    assert os.sched_getaffinity(0) == CORES


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="affinity of Linux")
def test_threads_that_take_all_cores_stay_on_them(tmp_path: Path) -> None:
    folder = make_bundle(tmp_path / "bundle", settings=RunSettings(threads=len(CORES)))
    model = Bundle(str(folder)).model("big")
    assert len(model.first_core) == (1 if len(CORES) > 1 else 0)
    assert model.time_session(0.001).speed_probe_ms > 0
    assert os.sched_getaffinity(0) == CORES


def test_drift_by_hand() -> None:
    assert drift([2.0] * 8) == 0
    # medians of the quarters 1, 1, 2, 2 and of all 1.5
    assert drift([1.0] * 4 + [2.0] * 4) == pytest.approx(1 / 1.5)


def test_split_half_by_hand() -> None:
    assert split_half([[1.0, 1.1], [2.0, 2.1], [3.0, 2.9]]) == pytest.approx(1.0)
    assert split_half([[1.0, 3.0], [2.0, 2.0], [3.0, 1.0]]) == pytest.approx(-1.0)


def test_threads_must_fit_the_cores_that_the_process_may_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RunnerError, match="threads must be >= 1, got 0"):
        Model(str(tmp_path), JOB | {"threads": 0})
    n = len(CORES)
    with pytest.raises(RunnerError, match=rf"threads must be <= \d+, .*affinity {n} cores.*got {n + 1}"):
        Model(str(tmp_path), JOB | {"threads": n + 1})
    monkeypatch.setattr(process_limits, "cpu_quota", lambda root="/": 0.5)
    with pytest.raises(RunnerError, match=r"threads must be <= 1, .*CPU quota 0\.5 cores\), got 2"):
        Model(str(tmp_path), JOB | {"threads": 2})


def test_cpu_time_does_not_count_while_a_quota_stops_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Bundle(str(make_bundle(tmp_path / "bundle"))).model("net")
    for module in (speed_probe, model_module):  # no moment is slow: both sessions count
        monkeypatch.setattr(module, "speed_probe_ms", lambda threads: 1.0)
    free = time_alone(model, 2)
    assert (free["clock"], free["throttled"]) == ("cpu", 0)
    assert free["runs"] >= 2 * MIN_RUNS
    periods = itertools.count()  # one more at each look: one in each session
    monkeypatch.setattr(model_module, "throttled_periods", lambda: next(periods))
    throttled = time_alone(model, 2)
    assert (throttled["clock"], throttled["throttled"]) == ("wall", 2)
    # the quartile of the sessions' fastest runs, by the clock of the fastest run of all
    assert throttled["latency_ms"] >= throttled["min_ms"]


@pytest.mark.parametrize("permanent", [False, True])
def test_throttled_trials_are_repeated_and_reported(tmp_path: Path, permanent: bool) -> None:
    class Throttled(TwoSpeeds):
        n_throttled = TRIALS * 3 if permanent else 5

        def trial(self, name: str, index: int, best_speed_probe_ms: float) -> dict[str, Any]:
            self.n_throttled -= 1
            return super().trial(name, index, best_speed_probe_ms) | {"throttled": int(self.n_throttled >= 0)}

    Throttled(str(make_bundle(tmp_path / "bundle", repeats=1.0))).run(0)
    results = read(tmp_path / "bundle")
    assert results.throttled_share == (1 if permanent else 0)
    assert len(results.always_slow) == (4 if permanent else 0)
    n_lines = len((tmp_path / "bundle" / JOURNAL).read_text().splitlines())
    assert n_lines == 1 + TRIALS + (TRIALS if permanent else 5)  # and the outputs of one model


def test_failed_run_leaves_the_process_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Bundle(str(make_bundle(tmp_path / "bundle"))).model("net")

    def fail(session: object) -> Any:
        calls = itertools.count()
        return lambda: 1 / (2 - next(calls))  # at the third run

    monkeypatch.setattr(model, "prepare", fail)
    with pytest.raises(ZeroDivisionError):
        model.time_session(0.001)
    assert gc.isenabled()
    assert os.sched_getaffinity(0) == CORES


def test_runs_during_which_the_thread_s_clock_hardly_moved_do_not_count() -> None:
    wall_ms = [1.1, 1.2, 1.3, 1.1, 1.4]
    assert fastest_run_ms([1.0, 1.1, 1.2, 1.05, 1.3], wall_ms) == 1.0
    assert fastest_run_ms([0.0, 1.1, 1.2, 1.05, 0.3], wall_ms) == 1.05
    assert fastest_run_ms([0.0, 0.0, 0.0, 1.05, 1.3], wall_ms) == 1.1  # the wall clock


def test_core_that_went_offline_ends_the_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    mine, missing = os.sched_getaffinity(0), 10**4  # no machine has so many cores
    for module in (affinity, speed_probe):
        monkeypatch.setattr(module, "CORES", {min(CORES), missing})
    message = r"can no longer use all of the CPU cores .*10000\].* start it again"
    with pytest.raises(RunnerError, match=message):
        speed_probe_ms(2)
    with pytest.raises(RunnerError, match=message):
        wait_until_steady(0.0, 1)
    os.sched_setaffinity(0, mine)


def test_inputs_and_outputs_in_a_provider_s_memory_give_the_same_outputs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Bundle(str(make_bundle(tmp_path / "bundle"))).model("net")
    session = model.open()
    inputs = random_inputs(session, model.input_shapes(session))
    binding = bind(session, inputs, "cpu")
    session.run_with_iobinding(binding)
    expected = session.run(None, inputs)
    np.testing.assert_array_equal(binding.copy_outputs_to_cpu(), expected)
    assert model.memory is None  # of the CPU provider: arrays are given directly
    model.memory = "cpu"
    monkeypatch.setattr(onnxruntime.InferenceSession, "run", None)  # would copy them in each run
    assert model.time_session(0.001).fastest_ms > 0


def test_accelerator_is_warmed_up_until_its_clock_has_settled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Bundle(str(make_bundle(tmp_path / "bundle"))).model("net")
    monkeypatch.setattr(model_module, "ACCELERATOR_WARM_UP_SECONDS", 0.05)
    seconds: list[float] = []
    model._warm_up(lambda: seconds.append(time.perf_counter()))
    assert len(seconds) == WARM_UP_RUNS - 1  # one is made before
    seconds.clear()
    model.provider = "CUDAExecutionProvider"
    model._warm_up(lambda: seconds.append(time.perf_counter()))
    assert seconds[-1] - seconds[0] > 0.04


def test_runner_without_onnxruntime_exits_with_one_line(tmp_path: Path) -> None:
    (tmp_path / "onnxruntime.py").write_text("raise ImportError('no onnxruntime here')")
    (tmp_path / RUNNER).write_text(runner_source(), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, tmp_path / RUNNER, "--describe"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith("no onnxruntime here; on this device: ")


def test_joined_file_has_every_module_once_and_no_name_twice() -> None:
    files = {path.stem for path in Path(affinity.__file__).parent.glob("*.py")}
    assert sorted(MODULES) == sorted(files - {"__init__"})
    definitions: Counter[str] = Counter()
    imports: dict[str, set[str]] = {}
    for node in ast.parse(runner_source()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            definitions[node.name] += 1
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            definitions.update({n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)})
        elif isinstance(node, ast.Import | ast.ImportFrom):
            module = node.module if isinstance(node, ast.ImportFrom) else ""
            for alias in node.names:
                imports.setdefault(alias.asname or alias.name, set()).add(f"{module}.{alias.name}")
    assert {name for name, count in definitions.items() if count > 1} == set()
    assert {name for name, sources in imports.items() if len(sources) > 1} == set()
    assert set(imports) & set(definitions) == set()
