"""What a search will cost, and searches on a part of the validation images."""

import time
from collections.abc import Sequence

import numpy as np
import pytest
from conftest import BUDGET, WHOLE_SEARCH

from hw_profiles.device import Device
from nas.data.dataset import Split
from nas.data.validation_part import validation_part
from nas.evaluation.trained_run import TrainedRun
from nas.report.report_run import report_run
from nas.runs.files import FRONT, SCREENING, SEARCH, SEARCH_CSV
from nas.search import cost_estimate, subnet_time
from nas.search.cost_estimate import estimate_cost
from nas.search.known_front import known_front
from nas.search.options import SearchOptions
from nas.search.problem.objectives import CostObjective, MetricObjective
from nas.search.problem.problem import Constraint, Problem
from nas.search.search_run import search_run
from nas.search.subnet_time import SubnetTime, time_subnets
from nas.search.two_stage import n_full
from nas.search.typical_subnets import typical_subnets
from search_spaces import Space
from search_spaces.costs import macs_table


def problem(space: Space, max_macs: float | None = None) -> Problem:
    macs = CostObjective("macs", macs_table(space))
    limits = [] if max_macs is None else [Constraint(macs, "max", max_macs)]
    return Problem(space, [MetricObjective("cross_entropy", "cross_entropy"), macs], limits)


# ---------------------------------------------------------------------- the estimate


def test_cost_adds_up_over_the_steps(trained: TrainedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost_estimate, "time_subnets", lambda *_: SubnetTime(0.5, 0.001))
    options = SearchOptions(budget=100, baseline="random", noise_ceiling=20, screen_images=88)
    found = estimate_cost(trained, problem(trained.space), options)
    # 88 or all 540 validation images and 512 calibration images: 0.5 + 0.600 or 0.5 + 1.052 s
    wanted = [
        ("search", 100, 88, 110),
        ("search, front on all images", 25, 540, 25 * 1.552),
        ("noise ceiling", 20, 88, 22),
        ("random baseline", 100, 88, 110),
        ("random baseline, front on all images", 25, 540, 25 * 1.552),
    ]
    assert [(s.step, s.evaluations, s.validation_images) for s in found.steps] == [w[:3] for w in wanted]
    assert [s.seconds for s in found.steps] == pytest.approx([w[3] for w in wanted])
    assert found.seconds == pytest.approx(2 * 110 + 2 * 25 * 1.552 + 22)
    assert found.smaller[0].validation_images == 22
    (*_, last) = found.lines()
    # 0.5 + 0.534 s for 22 and 512 images: 220 evaluations and the two second stages, 305 s
    assert last == ("estimated time of all evaluations: 5.3 minutes; with --screen-images 22: 5.1 minutes")


def test_minutes_limit_the_evaluations(trained: TrainedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost_estimate, "time_subnets", lambda *_: SubnetTime(1.0, 0.0))
    found = estimate_cost(trained, problem(trained.space), SearchOptions(minutes=1, baseline="random"))
    assert [(s.step, s.evaluations) for s in found.steps] == [("search", 30), ("random baseline", 30)]


def test_time_is_extrapolated_from_few_images(trained: TrainedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def timed(run: TrainedRun, names: object, archs: Sequence[object], *n: int) -> tuple[float, float]:
        asked.append(n)
        seconds = len(archs) * (0.02 + 0.001 * sum(n))
        return seconds, seconds

    monkeypatch.setattr(subnet_time, "_timed", timed)
    found = time_subnets(trained, [], [trained.space.largest] * 8, 10_000, 512, None)
    # 10,000 / 10,512 of the 16, 64 and 256 images are for validation; the first time is not used;
    # from 16 to 64 images it grows by 8 x 0.047 s, then by 8 x 0.192 s, which is more than a second
    assert asked == [(15, 2), (15, 2), (61, 3), (244, 12), (244, 12)]
    assert found.fixed_seconds == pytest.approx(0.02)
    assert found.seconds(10_512) == pytest.approx(0.02 + 10.512)


def test_a_disturbance_is_not_extrapolated(trained: TrainedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def timed(run: TrainedRun, names: object, archs: Sequence[object], *n: int) -> tuple[float, float]:
        asked.append(sum(n))
        disturbed = 5.0 if asked.count(sum(n)) == 1 else 0.0
        seconds = len(archs) * (0.02 + 0.001 * sum(n)) + disturbed
        return seconds, seconds

    monkeypatch.setattr(subnet_time, "_timed", timed)
    found = time_subnets(trained, [], [trained.space.largest] * 8, 10_000, 512, None)
    assert found.seconds(10_512) == pytest.approx(0.02 + 10.512)


def test_typical_subnets_have_the_macs_of_a_search(tiny: Space) -> None:
    def mean(archs: Sequence[object]) -> float:
        return float(np.mean([tiny.macs(arch) for arch in archs]))  # type: ignore[arg-type]

    assert typical_subnets(problem(tiny), 0) == typical_subnets(problem(tiny), 0)
    random = tiny.decode(tiny.sample(np.random.default_rng(1), 500))
    assert mean(typical_subnets(problem(tiny), 0)) == pytest.approx(mean(random), rel=0.5)
    few = typical_subnets(problem(tiny, 1.2 * tiny.macs(tiny.smallest)), 0)
    assert mean(few) < mean(typical_subnets(problem(tiny), 0))


@pytest.mark.slow
def test_estimate_agrees_with_the_time_of_the_evaluations(trained: TrainedRun) -> None:
    estimate = estimate_cost(trained, problem(trained.space), SearchOptions(budget=40))
    archs = {arch for seed in (1, 2, 3) for arch in typical_subnets(problem(trained.space), seed)}
    begin = time.process_time()
    trained.evaluator()(list(archs), "search")
    cpu_seconds = (time.process_time() - begin) / len(archs)
    assert estimate.cpu_seconds / 40 == pytest.approx(cpu_seconds, rel=0.5)


# ---------------------------------------------------------------------- a part of the validation images


def test_part_is_stratified_fixed_and_in_order(trained: TrainedRun) -> None:
    split = trained.dataset.split("validation")
    strata = trained.task.strata(split.targets)
    parts = {n: validation_part(trained.dataset, strata, n).split("validation") for n in (50, 100)}
    for n, part in parts.items():
        assert len(part) == n
        counts = np.bincount(part.targets, minlength=10)
        share = n / len(split) * np.bincount(split.targets)
        assert (np.abs(counts - share) <= 1).all()
    assert isinstance(split.images, np.ndarray)
    index = {image.tobytes(): i for i, image in enumerate(split.images)}
    rows = {n: [index[image.tobytes()] for image in part.images] for n, part in parts.items()}
    assert set(rows[50]) < set(rows[100])
    assert rows[50] == sorted(rows[50])
    lazy = Split(list(split.images), split.targets)

    class Lazy:
        def split(self, name: str) -> Split:
            return lazy

    opened = validation_part(Lazy(), strata, 50).split("validation")  # type: ignore[arg-type]
    assert all((a == b).all() for a, b in zip(opened.images, parts[50].images, strict=True))
    with pytest.raises(ValueError, match=r"validation images must be from 1 to all 540, got 541"):
        trained.with_validation_images(541)


def test_evaluations_on_a_part_are_separate_in_the_archive(trained: TrainedRun) -> None:
    part, archs = trained.with_validation_images(60), [trained.space.smallest]
    (few,), (everything,) = part.evaluator()(archs, "search"), trained.evaluator()(archs, "search")
    assert few != everything
    assert trained.with_validation_images(60).evaluator()(archs, "again") == [few]
    assert len(part.archive.frame()) == len(trained.archive.frame()) == 1
    assert trained.with_validation_images(None) is trained


@pytest.mark.usefixtures("quick_search")
def test_search_on_a_part_of_the_images(trained: TrainedRun, device: Device) -> None:
    options = SearchOptions(predictors=["ridge"], budget=12, validation_images=60)
    outcome = search_run(trained, device, options)
    assert trained.archive.frame().empty
    part = trained.with_validation_images(60)
    front = trained.run.search().read_csv(FRONT)
    known = part.archive.frame("validation", "default:512:seed0").set_index("arch_id")["cross_entropy"]
    assert front["cross_entropy"].tolist() == known[front["arch_id"]].tolist()
    record = trained.run.search().read_json(SEARCH)
    assert (record["validation_images"], record["screen_images"]) == (60, None)
    assert record["cost"]["steps"][0]["validation_images"] == 60
    picked, _ = known_front(trained.run, device)
    assert set(outcome.front["arch_id"]) <= {*part.archive.frame()["arch_id"]}
    assert (picked["metrics_are"] == "measured").any()


# ---------------------------------------------------------------------- two stages


@pytest.mark.usefixtures("quick_search")
@pytest.mark.parametrize("whole", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_second_stage_decides_about_the_front(trained: TrainedRun, device: Device, whole: bool) -> None:
    """With all optional parts if `whole`."""
    budget = BUDGET if whole else 12
    options = WHOLE_SEARCH if whole else {"predictors": ["ridge"], "budget": budget}
    outcome = search_run(trained, device, SearchOptions(**options, screen_images=60))
    results, space = trained.run.search(), trained.space
    screened, full, front = (results.read_csv(name) for name in (SCREENING, SEARCH_CSV, FRONT))
    assert len(screened) == budget
    assert set(full["arch_id"]) <= set(screened["arch_id"])
    assert full["arch_id"].tolist()[:2] == [space.smallest.id, space.largest.id]
    assert len(full) >= n_full(budget)
    assert set(screened["arch_id"][screened["on_front"]]) <= set(full["arch_id"])
    everything, part = trained.archive.frame(), trained.with_validation_images(60).archive.frame()
    on_all = everything.set_index("arch_id")["cross_entropy"]
    on_part = part[part["calibration"] == "default:512:seed0"].set_index("arch_id")["cross_entropy"]
    for table in (full, front):
        assert table["cross_entropy"].tolist() == on_all[table["arch_id"]].tolist()
        assert table["screened_cross_entropy"].tolist() == on_part[table["arch_id"]].tolist()
    assert screened["cross_entropy"].tolist() == on_part[screened["arch_id"]].tolist()
    assert outcome.predictor
    assert outcome.predictor.cross_validation.n == budget
    assert results.read_json(SEARCH)["evaluations"] == budget
    assert results.read_json(SEARCH)["fully_evaluated"] == len(full)
    if whole:
        assert outcome.random
        assert outcome.random.screening is not None
        assert len(outcome.random.screening) == budget
        assert "top-1, screening" in report_run(trained)[0].read_text()


def test_screening_needs_fewer_images_than_the_second_stage(trained: TrainedRun, device: Device) -> None:
    with pytest.raises(ValueError, match=r"--screen-images must be below the 540 validation images, got 540"):
        search_run(trained, device, SearchOptions(screen_images=540))
