import ast
import itertools
import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hw_profiles import runner
from hw_profiles.bundle import RESULTS, BundledModel, read_results, write_bundle
from hw_profiles.local import RUNNER, run_bundle
from nas import onnx_graph
from search_spaces import BLOCK_INPUT, LayerSpec

CPU = "CPUExecutionProvider"


def tiny_model(channels: int) -> bytes:
    layer = LayerSpec("conv", "conv", "b", (BLOCK_INPUT,), channels, channels, 4, 4)
    weights = onnx_graph.random_weights([layer], np.random.default_rng(0))
    content: bytes = onnx_graph.build([layer], weights).SerializeToString()
    return content


def make_bundle(folder: Path, seed: int = 0) -> Path:
    models = [
        BundledModel("small", tiny_model(2), 4),
        BundledModel("big", tiny_model(4), 4),
        BundledModel("net", tiny_model(8), 1, alone=True),
        BundledModel("sentinel", tiny_model(4), 8),
    ]
    write_bundle(folder, models, sentinel="sentinel", threads=1, provider=CPU, seed=seed)
    return folder


def ignore(done: int, total: int) -> None:
    """No progress is shown."""


def test_runs_on_old_pythons() -> None:
    ast.parse(RUNNER.read_text(), feature_version=(3, 8))


def test_bundle_is_measured_by_the_file_alone(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    copied = shutil.copy(RUNNER, tmp_path / "device_runner.py")
    done = subprocess.run(
        [sys.executable, copied, "bundle"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    results = read_results(bundle)
    assert {name: len(ms) for name, ms in results.visits_ms.items()} == {
        "small": 4,
        "big": 4,
        "net": 1,
        "sentinel": 8,
    }
    assert all(ms > 0 for visits in results.visits_ms.values() for ms in visits)
    assert results.device["version"] == onnxruntime.__version__
    assert results.device["threads"] == 1
    assert done.stdout.splitlines()[-1] == "17 17"  # 4 + 4 + 1 + 8 visits


@pytest.mark.parametrize("cut", [0, 1, 40])
def test_killed_runner_goes_on_after_the_last_whole_visit(tmp_path: Path, cut: int) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    run_bundle(bundle, ignore)
    journal = bundle / runner.VISITS
    lines = journal.read_text().splitlines(keepends=True)
    kept = lines[:6]
    journal.write_text("".join(kept) + lines[6][:cut])  # killed while it wrote the seventh visit
    (bundle / RESULTS).unlink()
    progress: list[tuple[int, int]] = []
    run_bundle(bundle, lambda done, total: progress.append((done, total)))
    after = journal.read_text().splitlines(keepends=True)
    assert after[:6] == kept
    visits = [json.loads(line) for line in after]
    assert max(Counter((v["model"], v["round"]) for v in visits).values()) == 1
    assert len(visits) == len(lines)
    assert progress[0] == (7, 17)  # nothing finished was measured again
    assert sum(map(len, read_results(bundle).visits_ms.values())) == 17


def test_journal_of_another_bundle_is_refused(tmp_path: Path) -> None:
    first, second = make_bundle(tmp_path / "a"), make_bundle(tmp_path / "b", seed=1)
    run_bundle(first, ignore)
    shutil.copy(first / runner.VISITS, second)
    with pytest.raises(ValueError, match=r"visits\.jsonl must be of this bundle .*remove it"):
        run_bundle(second, ignore)


def test_results_of_another_bundle_are_refused(tmp_path: Path) -> None:
    first, second = make_bundle(tmp_path / "a"), make_bundle(tmp_path / "b", seed=1)
    run_bundle(first, ignore)
    shutil.copy(first / RESULTS, second)
    with pytest.raises(ValueError, match="results of another bundle"):
        read_results(second)


def test_truncated_results_are_refused(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "a")
    (bundle / RESULTS).write_text('{"schema_version": 1, "bun')
    with pytest.raises(ValueError, match=r"results\.json"):
        read_results(bundle)
    (bundle / RESULTS).unlink()
    with pytest.raises(ValueError, match="run the bundle's runner again"):
        read_results(bundle)


def test_equal_bundle_keeps_its_visits_and_another_one_replaces_them(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "a")
    (bundle / runner.VISITS).write_text("")
    make_bundle(bundle)
    assert (bundle / runner.VISITS).exists()
    make_bundle(bundle, seed=1)
    assert not (bundle / runner.VISITS).exists()


def test_rounds_spread_over_the_time(tmp_path: Path) -> None:
    plan = runner.Bundle(str(make_bundle(tmp_path / "a"))).plan()
    assert Counter(name for name, _ in plan) == {"small": 4, "big": 4, "net": 1, "sentinel": 8}
    for name in ("small", "big", "sentinel"):
        rounds = [r for other, r in plan if other == name]
        assert rounds == sorted(rounds)
    # between two visits of a model lie at most 2 of its rounds, in which the sentinel (8 rounds to its 4) is
    # visited at most 2 * 8/4 + 1 times
    where = [i for i, (name, _) in enumerate(plan) if name == "small"]
    for start, end in itertools.pairwise(where):
        assert sum(name == "sentinel" for name, _ in plan[start:end]) <= 5
    assert plan == runner.Bundle(str(tmp_path / "a")).plan()


@pytest.mark.parametrize("job", ['{"id": ', ""])
def test_truncated_job_is_refused(tmp_path: Path, job: str) -> None:
    (tmp_path / "job.json").write_text(job)
    with pytest.raises(runner.RunnerError, match=r"cannot read .*job\.json"):
        runner.Bundle(str(tmp_path))


def test_missing_bundle_is_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert runner.main([str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@given(
    quiet=st.lists(st.floats(1.0, 1.01), min_size=4, max_size=4),
    busy=st.lists(st.floats(1.01, 9.0), max_size=8),
)
def test_robust_figure_ignores_disturbed_sessions(quiet: list[float], busy: list[float]) -> None:
    # the quartile of n = 4..12 values lies at index (n - 1) / 4 <= 2.75, inside the 4 quiet ones
    assert 1.0 <= runner.robust_ms(quiet + busy) <= 1.01


def test_drift_by_hand() -> None:
    assert runner.drift([2.0] * 8) == 0
    # medians of the quarters 1, 1, 2, 2 and of all 1.5
    assert runner.drift([1.0] * 4 + [2.0] * 4) == pytest.approx(1 / 1.5)


def test_split_half_by_hand() -> None:
    assert runner.split_half([[1.0, 1.1], [2.0, 2.1], [3.0, 2.9]]) == pytest.approx(1.0)
    assert runner.split_half([[1.0, 3.0], [2.0, 2.0], [3.0, 1.0]]) == pytest.approx(-1.0)


def test_threads_below_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(runner.RunnerError, match="threads must be >= 1, got 0"):
        runner.Model(str(tmp_path), 0, CPU)
