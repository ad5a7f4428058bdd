"""A search as a step of a run: what it writes, goes on with, and accepts of a user's own."""

import dataclasses
import importlib
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import BUDGET, MEASURED, WHOLE_SEARCH, make_device, make_search_quick

import search_spaces
from hw_profiles.connections.base import NotMeasuredError
from hw_profiles.connections.local import Local
from hw_profiles.connections.offline_bundle import OfflineBundle
from hw_profiles.device import Device
from hw_profiles.device_files import read_device
from hw_profiles.measuring.bundle import read_job
from hw_profiles.measuring.results import Results
from nas.devices.check_images import noise_images
from nas.devices.measured_latencies import MeasuredLatencies
from nas.evaluation.group import GroupEvaluation
from nas.evaluation.trained_run import TrainedRun
from nas.evaluation.workers import Group, Measure, Outcome, Threads
from nas.evaluation.workers import Results as Evaluations
from nas.progress import silent
from nas.report.report_run import report_run
from nas.runs.files import (
    ARCHIVE,
    ARCHIVE_CSV,
    BASELINE,
    FRONT,
    PREDICTIONS,
    PREDICTOR,
    PROFILES,
    SEARCH,
    SEARCH_CSV,
)
from nas.search.known_front import known_front
from nas.search.options import SearchOptions
from nas.search.predictor_record import PredictorRecord
from nas.search.search_outcome import SearchOutcome
from nas.search.search_run import search_run
from search_spaces import Arch
from search_spaces.costs import macs_table

pytestmark = pytest.mark.usefixtures("quick_search")
ALONE: dict[str, object] = {"baseline": None, "noise_ceiling": 0}
"""Options of a search without optional evaluations."""
WRITTEN = (SEARCH, SEARCH_CSV, FRONT, BASELINE, PREDICTOR, PREDICTIONS)


def search(trained: TrainedRun, device: Device, **options: object) -> SearchOutcome:
    names = {field.name for field in dataclasses.fields(SearchOptions)}
    given = WHOLE_SEARCH | options
    chosen = SearchOptions(**{name: given.pop(name) for name in names & given.keys()})
    return search_run(trained, device, chosen, **given)


@pytest.fixture
def evaluated(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Id and calibration of the subnets that were really run."""
    seen: list[tuple[str, str]] = []
    run = GroupEvaluation.__call__

    def counting(self: GroupEvaluation, archs: Group, threads: int = 1, worker: int = 0) -> list[Outcome]:
        seen.extend((arch.id, self.calibration.key) for arch in archs)
        return run(self, archs, threads, worker)

    monkeypatch.setattr(GroupEvaluation, "__call__", counting)
    return seen


# ---------------------------------------------------------------------- what is written


def test_everything_that_later_steps_read_is_there(searched: TrainedRun) -> None:
    run = searched.run
    results = run.search()
    assert all(results.has(name) for name in WRITTEN)
    assert run.has(ARCHIVE_CSV)
    record = results.read_json(SEARCH)
    assert record["objectives"] == ["cross_entropy", "latency_ms"]
    assert record["maximised"] == []
    assert (record["device"], record["batch"], record["seed"]) == ("desk", 1, 0)
    assert record["evaluations"] == len(results.read_csv(SEARCH_CSV)) == BUDGET
    assert read_device(run.file(PROFILES) / "desk").profile == make_device(searched.space).profile
    assert results.read_model(PREDICTOR, PredictorRecord).name == "ridge"


@pytest.mark.parametrize("name", [FRONT, BASELINE])
def test_front_is_measured_and_no_subnet_of_it_beats_another(searched: TrainedRun, name: str) -> None:
    front, space = searched.run.search().read_csv(name), searched.space
    archs = front["arch"].tolist()
    assert [arch.id for arch in archs] == front["arch_id"].tolist()
    predicted = make_device(space).table.predict(space.encode(archs), space)
    np.testing.assert_allclose(front["latency_ms"], predicted)
    np.testing.assert_allclose(front["measured_latency_ms"], MEASURED * predicted)
    assert front["keeps_limits"].all()
    points = front[["cross_entropy", "measured_latency_ms"]].to_numpy()
    for i, point in enumerate(points):
        others = np.delete(points, i, axis=0)
        assert not ((others <= point).all(axis=1)).any()
    again = searched.evaluator()(archs, "again")
    assert front["cross_entropy"].tolist() == [metrics["cross_entropy"] for metrics in again]


def test_reference_point_is_that_of_the_corners(searched: TrainedRun) -> None:
    space = searched.space
    reference = searched.run.search().read_json(SEARCH)["reference"]
    corners = [space.smallest, space.largest]
    metrics = searched.evaluator()(corners, "again")
    latency_ms = make_device(space).table.predict(space.encode(corners), space)
    assert reference["cross_entropy"] == pytest.approx(1.05 * max(m["cross_entropy"] for m in metrics))
    assert reference["latency_ms"] == pytest.approx(1.05 * max(latency_ms))


@pytest.mark.slow
def test_workers_make_all_evaluations_and_the_baseline_has_as_many_as_the_search(
    trained: TrainedRun, device: Device
) -> None:
    made: list[Arch] = []

    class Counting(Threads):
        def __call__(self, measure: Measure, groups: Sequence[Group]) -> Evaluations:
            made.extend(arch for group in groups for arch in group)
            return super().__call__(measure, groups)

    outcome = search(trained, device, workers=Counting(1))
    assert len(made) == len(trained.archive.frame())  # search, noise ceiling and baseline
    assert len(trained.archive.frame("validation", "default:512:seed1")) == WHOLE_SEARCH["noise_ceiling"]
    assert outcome.random
    assert len(outcome.random.evaluations) == len(outcome.result.evaluations) == BUDGET
    origins = trained.archive.frame("validation", "default:512:seed0")["origin"]
    assert set(origins) == {"search", "baseline"}
    volume = trained.run.search().read_json(SEARCH)["baseline"]
    assert volume == {"hypervolume": outcome.random.hypervolume, "evaluations": BUDGET}


@pytest.mark.slow
def test_limit_that_random_search_never_meets_leaves_the_front(
    trained: TrainedRun, device: Device, tmp_path: Path
) -> None:
    space = trained.space
    genomes = np.unique(space.sample(np.random.default_rng(3), 200), axis=0)
    macs, counts = np.unique(macs_table(space)(genomes), return_counts=True)
    arch = space.decode(genomes[macs_table(space)(genomes) == macs[counts == 1][5]])[0]
    (tmp_path / "start.csv").write_text(pd.DataFrame({"arch": [arch.to_json()]}).to_csv(index=False))
    limit = f"macs={space.macs(arch)}"
    outcome = search(trained, device, maxima=[limit], minima=[limit], warm_start=tmp_path / "start.csv")
    assert arch.id in outcome.front["arch_id"].tolist()
    assert (outcome.random, outcome.baseline) == (None, None)
    results = trained.run.search()
    assert arch.id in results.read_csv(FRONT)["arch_id"].tolist()
    record = results.read_json(SEARCH)
    assert record["baseline"] is None
    assert record["no_baseline"] == "random search found no subnet that meets the limits"
    assert not results.has(BASELINE)
    assert report_run(trained)[0].exists()


@pytest.mark.slow
def test_what_was_found_is_written_before_the_baseline(trained: TrainedRun, device: Device) -> None:
    def interrupt(what: str, done: int, total: int) -> None:
        if "baseline" in set(trained.archive.frame()["origin"]):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search(trained, device, progress=interrupt)
    results = trained.run.search()
    assert len(results.read_csv(FRONT))
    assert results.read_json(SEARCH)["no_baseline"] == "the search was stopped before its random baseline"
    outcome = search(trained, device)
    assert outcome.random
    assert trained.run.search().read_json(SEARCH)["no_baseline"] == ""


def test_search_without_options_evaluates_no_more_than_its_budget(
    trained: TrainedRun, device: Device
) -> None:
    outcome = search(trained, device, **ALONE)
    assert trained.archive.frame()["origin"].tolist() == ["search"] * BUDGET
    assert (outcome.random, outcome.no_baseline) == (None, "")
    assert outcome.predictor
    assert outcome.predictor.ceiling is None
    results = trained.run.search()
    assert not results.has(BASELINE)
    record = results.read_json(SEARCH)
    assert (record["baseline"], record["no_baseline"]) == (None, "")
    page = report_run(trained)[0].read_text()
    assert "random search" not in page
    assert "(ceiling)" not in page
    assert "<td>iterative (test split, measured latency)</td>" in page


# ---------------------------------------------------------------------- again and again


@pytest.mark.slow
def test_equal_seeds_give_equal_files_and_others_do_not(searched: TrainedRun, trained: TrainedRun) -> None:
    before = {name: searched.run.search().file(name).read_bytes() for name in WRITTEN}
    searched.archive.path.unlink()  # all is evaluated again
    fresh = TrainedRun.open(searched.run.path)
    search(fresh, make_device(fresh.space))
    assert {name: fresh.run.search().file(name).read_bytes() for name in before} == before
    search(fresh, make_device(fresh.space), seed=1)
    assert fresh.run.search().file(SEARCH_CSV).read_bytes() != before[SEARCH_CSV]


def test_second_call_evaluates_nothing(searched: TrainedRun, evaluated: list[tuple[str, str]]) -> None:
    before = searched.run.search().file(FRONT).read_bytes()
    search(searched, make_device(searched.space))
    assert evaluated == []
    assert searched.run.search().file(FRONT).read_bytes() == before


@pytest.mark.slow
def test_stopped_search_goes_on_where_it_was(
    trained: TrainedRun, searched: TrainedRun, device: Device, evaluated: list[tuple[str, str]]
) -> None:
    def interrupt(what: str, done: int, total: int) -> None:
        if len(evaluated) >= 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search(trained, device, progress=interrupt)
    assert trained.run.last_device is None
    kept = {(row["arch_id"], row["calibration"]) for _, row in trained.archive.frame().iterrows()}
    assert kept
    evaluated.clear()
    search(trained, device)
    assert not kept & set(evaluated)
    assert trained.run.search().file(FRONT).read_bytes() == searched.run.search().file(FRONT).read_bytes()


@pytest.mark.slow
def test_metrics_of_earlier_evaluations_change_nothing(trained: TrainedRun, searched: TrainedRun) -> None:
    archs = searched.run.search().read_csv(SEARCH_CSV)["arch"][:5].tolist()
    trained.evaluator(extra_metrics=["macro_f1"])(archs, "evaluate")
    search(trained, make_device(trained.space))
    assert trained.run.search().file(FRONT).read_bytes() == searched.run.search().file(FRONT).read_bytes()


# ---------------------------------------------------------------------- objectives and limits


@pytest.mark.parametrize(
    ("objectives", "maximised"),
    [
        (["accuracy", "latency_ms@desk"], ["accuracy"]),
        pytest.param(["cross_entropy"], [], marks=pytest.mark.slow),
        pytest.param(["cross_entropy", "macs", "params"], [], marks=pytest.mark.slow),
    ],
)
def test_other_objectives_in_the_users_order(
    trained: TrainedRun, device: Device, objectives: list[str], maximised: list[str]
) -> None:
    outcome = search(trained, device, objectives=objectives, **ALONE)
    record = trained.run.search().read_json(SEARCH)
    assert record["objectives"] == list(record["reference"]) == objectives
    assert record["maximised"] == maximised
    assert {*objectives, "latency_ms", "measured_latency_ms"} <= set(outcome.front)
    signs = [-1 if name in maximised else 1 for name in objectives]
    columns = ["measured_latency_ms" if name.startswith("latency_ms") else name for name in objectives]
    points = outcome.front[columns].to_numpy() * signs
    assert not any((np.delete(points, i, axis=0) <= p).all(axis=1).any() for i, p in enumerate(points))


def test_subnets_that_exceed_a_limit_when_measured_are_marked(trained: TrainedRun, device: Device) -> None:
    genomes = trained.space.sample(np.random.default_rng(5), 50)
    limit = float(np.median(device.table.predict(genomes, trained.space)))
    search(trained, device, maxima=[f"latency_ms={limit}"], objectives=["accuracy", "macs"], **ALONE)
    front, all_found = trained.run.search().read_csv(FRONT), trained.run.search().read_csv(SEARCH_CSV)
    # 2 %, twice the device's noise floor, in hand, so that measuring again agrees
    assert (1.02 * front["measured_latency_ms"] <= limit).all()
    assert front["keeps_limits"].all()
    measured = all_found[all_found["measured_latency_ms"].notna()]
    keeps = 1.02 * measured["measured_latency_ms"] <= limit
    assert measured["keeps_limits"].tolist() == keeps.tolist()
    assert trained.run.search().read_json(SEARCH)["constraints"] == [f"latency_ms <= {limit:g}"]


@pytest.mark.slow
def test_front_without_a_subnet_within_the_measured_limit_is_marked(
    trained: TrainedRun, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(self: MeasuredLatencies, connection: object, archs: list[Arch], _: object) -> None:
        self.ms |= {arch.id: 9.0 for arch in archs}

    monkeypatch.setattr(MeasuredLatencies, "measure", slow)
    front = search(trained, device, maxima=["latency_ms=5"]).front
    assert len(front)
    assert not front["keeps_limits"].any()


def test_unmeasured_front_is_marked(trained: TrainedRun, device: Device) -> None:
    outcome = search(trained, device, measure=False, **ALONE)
    assert outcome.front["measured_latency_ms"].isna().all()
    assert outcome.own.waiting >= len(outcome.front)
    assert trained.run.search().read_csv(FRONT)["measured_latency_ms"].isna().all()


def test_device_that_is_another_one_is_refused_before_the_search(
    trained: TrainedRun, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Local, "describe", lambda self: {"cpu": "another", "machine": "arm64"})
    with pytest.raises(ValueError, match=r"is not 'desk': it reports \{'cpu': 'another'\}"):
        search(trained, device)
    assert trained.run.last_device is None


def test_front_of_a_device_without_connection_is_measured_with_its_results(
    trained: TrainedRun, device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    make_search_quick(monkeypatch, measured=False)
    with pytest.raises(ValueError, match="--bundle DIR writes the folder"):
        search(trained, device, connection=OfflineBundle())
    out = tmp_path / "stick"
    with pytest.raises(NotMeasuredError, match=r"stick .* is ready to be copied"):
        search(trained, device, connection=OfflineBundle(out=out), **ALONE)
    assert trained.run.search().read_csv(FRONT)["measured_latency_ms"].isna().all()
    names = [model.id for model in read_job(out).models]
    assert set(trained.run.search().read_csv(FRONT)["arch_id"]) <= set(names)
    assert {model.images for model in read_job(out).models} <= {"images/6.npy", "images/8.npy"}
    results = tmp_path / "results.csv"
    results.write_text("model_id,latency_ms\n" + "".join(f"{name},{i + 1}\n" for i, name in enumerate(names)))
    outcome = search(trained, device, connection=OfflineBundle(results=results), **ALONE)
    measured = dict(zip(outcome.front["arch_id"], outcome.front["measured_latency_ms"], strict=True))
    assert measured
    assert all(measured[name] == names.index(name) + 1 for name in measured)
    with pytest.raises(ValueError, match="the run has no unfinished bundle"):
        search(trained, device, connection=OfflineBundle(results=results), **ALONE)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"maxima": ["latency_ms=0.0001"]},
            r"no subnet .* latency_ms <= 0\.0001: the closest one, \w+, reach",
        ),
        ({"minima": ["accuracy=1.5"]}, r"no subnet .* accuracy >= 1\.5: the closest one, \w+, reaches accur"),
        ({"maxima": ["latency_ms@pi4=1"]}, r"must name one of the devices \['desk'\].* got pi4"),
        ({"maxima": ["latency_ms"]}, "--max must be NAME=NUMBER"),
        ({"objectives": ["speed"]}, "objective must be one of .* got 'speed'"),
        ({"algorithm": "magic"}, "search algorithm must be one of .* got 'magic'"),
        ({"predictors": ["oracle"]}, "predictor must be one of .* got 'oracle'"),
        ({"budget": 3}, "budget must be >= 10"),
    ],
)
def test_bad_options_are_one_line_and_write_nothing(
    trained: TrainedRun, device: Device, options: dict[str, object], message: str
) -> None:
    before = {path.name for path in trained.run.path.iterdir()}
    with pytest.raises(ValueError, match=message) as caught:
        search(trained, device, **{**ALONE, "budget": 10, **options})
    assert "\n" not in str(caught.value)
    after = {path.name for path in trained.run.path.iterdir()} - {ARCHIVE}  # evaluations are kept
    assert after == before


def test_missing_blocks_of_another_space_s_device_are_named(trained: TrainedRun) -> None:
    other = make_device(search_spaces.get("digits"))
    message = r"lacks \d+ blocks of the space 'tiny' .*`nas profile \S+ --device desk-tiny`"
    for objectives in (["cross_entropy", "latency_ms"], ["cross_entropy", "macs"]):
        with pytest.raises(ValueError, match=message):
            search(trained, other, objectives=objectives)
    assert trained.archive.frame().empty  # found before anything is evaluated


# ---------------------------------------------------------------------- latency


def test_latency_is_measured_with_the_device_s_settings_and_stored(
    trained: TrainedRun, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.undo()
    seen = []

    def measure(self: Local, bundle: Path, progress: object) -> Results:
        job = read_job(bundle)
        seen.append((job.batch, job.threads, job.provider, [model.id for model in job.models]))
        trials = {model.id: [i + 1.0] for i, model in enumerate(job.models)}
        return Results.of_tool(job, trials, "made up", 0.0)

    monkeypatch.setattr(Local, "measure", measure)
    space, archs = trained.space, [trained.space.smallest, trained.space.largest]

    def latencies(device: Device) -> MeasuredLatencies:
        return MeasuredLatencies(tmp_path, device, space, lambda size: noise_images(1, size))

    device = make_device(space, batch=2)
    latencies(device).measure(Local(), archs, silent)
    assert seen == [(2, 1, "CPUExecutionProvider", [arch.id for arch in archs])]
    assert latencies(device).ms == {archs[0].id: 1.0, archs[1].id: 2.0}
    other = make_device(space, batch=1)
    assert latencies(other).ms == {}  # of another key: not comparable
    latencies(other).measure(Local(), archs[:1], silent)
    assert latencies(other).ms == {archs[0].id: 1.0}
    assert latencies(device).ms == {archs[0].id: 1.0, archs[1].id: 2.0}  # still there


# ---------------------------------------------------------------------- a user's own parts

SOURCE = '''
import numpy as np
from nas.search.problem.objectives import CostObjective
from nas.search.algorithms.random_search import RandomSearch
from nas.search.algorithms.surrogate import SurrogateFitter
from sklearn.linear_model import LinearRegression

asked = []


class NoEstimator:
    def __init__(self, features, seed):
        pass

    def fit(self, X, y):
        return self

    def predict(self, X):
        return X[:, 0]


def depth(context):
    """Number of nodes."""
    space = context.space
    def count(genomes):
        return np.array([len(space.network(arch).nodes) for arch in space.decode(genomes)])

    return CostObjective("my_parts:depth", count)


def short_name(context):
    return CostObjective("depth", depth(context).compute)


def linear(features, seed):
    return LinearRegression()


class Patient(RandomSearch):
    def __init__(self, task):
        super().__init__(task)
        self._fit = SurrogateFitter(task)

    def ask(self, n):
        asked.append(n)
        if len(self._history) >= 10:
            self._fit(self._history)
            return super().ask(n)
        n = min(n, 10)
        return super().ask(n)


def no_objective(context):
    return 3
'''


@pytest.fixture
def own_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The current folder holds the user's module."""
    (tmp_path / "my_parts.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    importlib.invalidate_caches()
    yield
    sys.modules.pop("my_parts", None)


@pytest.mark.usefixtures("own_parts")
def test_a_users_own_objective_predictor_and_algorithm(trained: TrainedRun, device: Device) -> None:
    outcome = search(
        trained,
        device,
        objectives=["cross_entropy", "my_parts:depth"],
        predictors=["my_parts:linear"],
        algorithm="my_parts:Patient",
        **ALONE,
    )
    record = json.loads(trained.run.search().read_text(SEARCH))
    assert record["objectives"] == ["cross_entropy", "my_parts:depth"]
    assert record["algorithm"] == "my_parts:Patient"
    assert record["predictors"]["cross_entropy"]["predictor"] == "my_parts:linear"
    assert outcome.predictor
    assert outcome.predictor.name == "my_parts:linear"
    assert sys.modules["my_parts"].asked == [BUDGET - 2, BUDGET - 12]  # 2 corners, then 10 subnets
    assert [(r.n_train, r.n) for r in outcome.predictor.rounds] == [(12, BUDGET - 12)]
    nodes = [len(trained.space.network(arch).nodes) for arch in outcome.front["arch"]]
    assert outcome.front["my_parts:depth"].tolist() == nodes
    assert pd.read_csv(trained.run.search().file(FRONT))["my_parts:depth"].tolist() == nodes


@pytest.mark.slow
@pytest.mark.usefixtures("own_parts")
def test_nas_pick_after_a_search_with_an_objective_of_the_users_own(
    trained: TrainedRun, device: Device
) -> None:
    own = "my_parts:short_name"
    front = search(trained, device, objectives=["cross_entropy", own]).front
    sys.modules.pop("my_parts")
    with pytest.raises(
        ValueError, match=f"objective '{own}' is custom code.* give its name .*--allow-import"
    ):
        known_front(trained.run, device)
    assert "my_parts" not in sys.modules
    given, _ = known_front(trained.run, device, objectives=[own])
    allowed, _ = known_front(trained.run, device, allow_import=True)
    pd.testing.assert_frame_equal(given, allowed)
    known = front.set_index("arch_id")["depth"]
    shared = [i for i in given["arch_id"] if i in known.index]
    assert shared
    assert given.set_index("arch_id")["depth"][shared].tolist() == known[shared].tolist()
    with pytest.raises(
        ValueError, match=r"--objective must be an objective of the search, .* got my_parts:other"
    ):
        known_front(trained.run, device, objectives=["my_parts:other"])


@pytest.mark.usefixtures("own_parts")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objectives": ["my_parts:no_objective"]}, "'my_parts:no_objective' must make an Objective"),
        ({"objectives": ["my_parts:missing"]}, "cannot import the objective 'my_parts:missing'"),
        ({"predictors": ["my_parts:NoEstimator"]}, "must be Regressor, but has no get_params"),
        ({"predictors": ["my_parts:asked"]}, "predictor 'my_parts:asked' must be a callable"),
        ({"algorithm": "my_parts:asked"}, "search algorithm 'my_parts:asked' must be a callable"),
    ],
)
def test_wrong_parts_are_refused_in_one_line(
    trained: TrainedRun, device: Device, options: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        search(trained, device, **options)
    assert "\n" not in str(caught.value)
    assert trained.run.last_device is None
