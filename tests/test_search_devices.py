"""One search for several devices, warm starts, and budgets in minutes."""

import dataclasses
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import BUDGET, make_device

from hw_profiles.device import Device
from nas import tasks
from nas.evaluation.trained_run import TrainedRun
from nas.export.export_run import export_subnets
from nas.report.report_run import report_run
from nas.runs.files import FRONT, SEARCH
from nas.search.known_front import known_front
from nas.search.minimax_regret import minimax_regret
from nas.search.options import SearchOptions
from nas.search.search_outcome import SearchOutcome
from nas.search.search_problem import make_problem, problem_on, read_front
from nas.search.search_run import search_run
from search_spaces import Arch, Space

pytestmark = pytest.mark.usefixtures("quick_search")

TASK = tasks.get("classification")


def launch_bound(space: Space) -> Device:
    """A device on which every block takes equally long."""
    device = make_device(space, name="gpu")
    return replace(device, blocks=device.blocks.assign(latency_ms=0.1))


def search(trained: TrainedRun, **options: object) -> SearchOutcome:
    device = make_device(trained.space)
    names = {field.name for field in dataclasses.fields(SearchOptions)}
    given = {"predictors": ["ridge"], "budget": BUDGET, **options}
    chosen = SearchOptions(**{name: given.pop(name) for name in names & given.keys()})  # type: ignore[arg-type]
    return search_run(trained, device, chosen, **given)  # type: ignore[arg-type]


# ---------------------------------------------------------------------- several devices


@pytest.mark.slow
def test_each_device_gets_the_front_of_all_evaluations(trained: TrainedRun) -> None:
    gpu = launch_bound(trained.space)
    outcome = search(trained, others=[gpu], baseline="random")
    everything, space = outcome.result.evaluations, trained.space
    assert len(everything) == BUDGET  # one search, not two
    genomes = space.encode(everything["arch"])
    for device, front in ((make_device(space), outcome.front), (gpu, outcome.fronts["gpu"])):
        latency = device.table.predict(genomes, space)
        points = np.stack([everything["cross_entropy"], latency], axis=1)
        best = [
            i
            for i, p in enumerate(points)
            if not ((points <= p).all(axis=1) & (points < p).any(axis=1)).any()
        ]
        assert set(front["arch_id"]) == set(everything["arch_id"].iloc[best])
        np.testing.assert_allclose(
            front["latency_ms"],
            [latency[everything["arch_id"].tolist().index(i)] for i in front["arch_id"]],
        )
    record = trained.run.search().read_json(SEARCH)
    assert record["devices"] == ["desk", "gpu"]
    assert record["objectives"] == ["cross_entropy", "latency_ms@desk"]  # what front.csv is about
    results = trained.run.search("gpu")
    assert results.read_csv(FRONT)["arch_id"].tolist() == list(outcome.fronts["gpu"]["arch_id"])
    assert results.read_json(SEARCH)["objectives"] == ["cross_entropy", "latency_ms@gpu"]
    (exported,) = export_subnets(trained, "knee", device="gpu")
    assert exported.path.parent.name == "gpu"
    figures = [name for name, *_ in report_run(trained, device="gpu")[1]]
    assert "test hypervolume, search / random search" in figures  # by predicted latencies
    assert (trained.run.searched(), trained.run.last_device) == (["desk", "gpu"], "desk")


@pytest.mark.slow
def test_best_for_all_is_in_the_record_and_keeps_every_limit(trained: TrainedRun) -> None:
    gpu, space = launch_bound(trained.space), trained.space
    limit = float(gpu.table.predict(space.encode([space.smallest]), space)[0]) * 1.2
    outcome = search(trained, others=[gpu], maxima=[f"latency_ms@gpu={limit}"])
    best = trained.run.search().read_json(SEARCH)["best_for_all"]
    assert set(best["regret"]) == {"desk", "gpu"}
    assert all(regret >= 0 for regret in best["regret"].values())
    assert gpu.table.predict(space.encode([Arch.from_json(best["arch"])]), space)[0] <= limit
    assert outcome.best_for_all == best
    # the limit is the gpu's alone
    assert [str(c) for c in problem_on(outcome.result.problem, gpu).constraints] == []


def test_worst_regret_is_least() -> None:
    # fronts on two devices whose knees differ: on a, row 0 is nearest to the ideal point, on b row 2
    a = np.array([[0.1, 0.1], [0.2, 0.2], [0.9, 0.9], [0.0, 1.0], [1.0, 0.0]])
    b = np.array([[0.9, 0.9], [0.2, 0.2], [0.1, 0.1], [0.0, 1.0], [1.0, 0.0]])
    found = minimax_regret({"a": a, "b": b})
    assert found.row == 1
    # on a the front's extent is 1 x 1: row 1 is sqrt(0.08) off, the best is sqrt(0.02) off
    assert found.regret["a"] == pytest.approx(np.sqrt(0.08) - np.sqrt(0.02))
    assert found.worst == max(found.regret.values())


def test_plain_latency_limits_must_name_a_device(tiny: Space) -> None:
    with pytest.raises(ValueError, match=r"latency_ms must name one of the devices \['desk', 'gpu'\]"):
        make_problem(
            tiny,
            TASK,
            make_device(tiny),
            maxima=["latency_ms=1"],
            others=[launch_bound(tiny)],
        )


def test_repeated_objectives_are_refused(tiny: Space) -> None:
    with pytest.raises(ValueError, match=r"objectives must have different names, got 'macs' twice"):
        make_problem(tiny, TASK, make_device(tiny), ["macs", "params", "macs"])


def test_a_search_for_another_device_leaves_the_first_ones_results_and_exports(searched: TrainedRun) -> None:
    run, gpu = searched.run, launch_bound(searched.space)
    (exported,) = export_subnets(searched, "first")
    before = {path: path.read_bytes() for path in (*run.search().path.iterdir(), exported.path)}
    search_run(searched, gpu, SearchOptions(predictors=["ridge"], budget=10), measure=False)
    assert {path: path.read_bytes() for path in before} == before
    assert run.last_device == "gpu"
    # the smallest subnet is the best in latency on both devices: equal names, two files
    cards = {}
    for name in ("desk", "gpu"):
        (file,) = export_subnets(searched, "last", device=name)
        cards[file.path] = json.loads(file.path.with_suffix(".json").read_text())["device"]
    assert sorted(cards.values()) == ["desk", "gpu"]
    assert known_front(run, make_device(searched.space))[0]["measured_latency_ms"].notna().any()
    assert known_front(run, gpu)[0]["measured_latency_ms"].isna().all()
    with pytest.raises(ValueError, match=r"not searched for the device 'pi' \(searched: desk, gpu\)"):
        export_subnets(searched, device="pi")


# ---------------------------------------------------------------------- warm start


@pytest.mark.slow
def test_a_warm_start_is_evaluated_first(trained: TrainedRun, searched: TrainedRun) -> None:
    front = read_front(searched.run.path, searched.space)
    outcome = search(trained, warm_start=searched.run.path)
    ids = [arch.id for arch in searched.space.decode(front)]
    corners = [trained.space.smallest.id, trained.space.largest.id]
    first = outcome.result.evaluations["arch_id"].tolist()
    wanted = list(dict.fromkeys([*corners, *ids]))[: BUDGET // 2]
    assert first[: len(wanted)] == wanted
    assert len(first) == BUDGET
    assert len(set(first)) == BUDGET


def test_a_warm_start_from_elsewhere_is_refused(tmp_path: Path, tiny: Space, searched: TrainedRun) -> None:
    with pytest.raises(ValueError, match=r"--warm-start must be a searched run or a CSV file"):
        read_front(tmp_path, tiny)
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match=r"with the column arch, got .*other\.csv"):
        read_front(tmp_path / "other.csv", tiny)
    table = pd.read_csv(searched.run.search().file(FRONT))
    table["arch"] = table["arch"].str.replace('"resolution": ', '"resolution": 1')
    table.to_csv(tmp_path / "foreign.csv")
    with pytest.raises(ValueError, match=r"resolution must be one of \(6, 8\)"):
        read_front(tmp_path / "foreign.csv", tiny)


# ---------------------------------------------------------------------- minutes


def test_minutes_end_a_search_after_the_batch_that_is_running(trained: TrainedRun) -> None:
    outcome = search(trained, budget=None, minutes=1e-9, warm_start=None, baseline="random", noise_ceiling=9)
    assert len(outcome.result.evaluations) == 10  # the fewest that a predictor can be judged on
    assert (outcome.random, outcome.predictor) == (None, None)  # no round was predicted
    record = trained.run.search().read_json(SEARCH)
    assert (record["no_baseline"], record["baseline"]) == ("the time limit was reached", None)
    assert len(trained.archive.frame()) == 10


@pytest.mark.parametrize("minutes", [0.0, -1.0, float("nan"), float("inf")])
def test_minutes_that_end_nothing_are_refused(trained: TrainedRun, minutes: float) -> None:
    with pytest.raises(ValueError, match="--minutes must be a finite number > 0, got"):
        search(trained, budget=None, minutes=minutes)
    assert trained.archive.frame().empty
