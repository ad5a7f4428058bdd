from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hw_profiles.connections.base import NotMeasuredError
from hw_profiles.connections.local import Local
from hw_profiles.connections.offline_bundle import OfflineBundle
from nas.progress import silent
from nas.search.problem.objectives import CostObjective, MetricObjective
from nas.search.problem.problem import Constraint, Problem
from nas.search.search_result import SearchResult
from nas.search.validation import MAX_ROUNDS, Validation, measure_fronts
from search_spaces import Arch, Space

NOISE_FLOOR = 0.01
"""A limit is kept with twice that in hand: 6.37 ms and less keep 6.5 ms."""

SUBNETS = {  # predicted ms, cross-entropy, really ms
    "small": (2.0, 0.9, 2.0),
    "middle": (4.0, 0.5, 4.0),
    "slow": (6.0, 0.1, 7.0),
    "next": (6.2, 0.2, 6.3),
    "close": (6.3, 0.15, 6.4),
    "poor": (4.5, 0.6, 4.5),
    "large": (9.0, 0.05, 9.0),
}


class FakeMeasurements:
    """Replaces `MeasuredLatencies`."""

    def __init__(self, really: dict[str, float], error: NotMeasuredError | None = None) -> None:
        self.ms: dict[str, float] = {}
        self.really, self.error, self.calls = really, error, list[list[str]]()

    def measure(self, connection: object, archs: Sequence[Arch], progress: object) -> None:
        if self.error:
            raise self.error
        self.calls.append([arch.id for arch in archs])
        self.ms |= {arch.id: self.really[arch.id] for arch in archs}


class Case:
    """The subnets above as a search found them, with at most 6.5 ms allowed."""

    def __init__(self, space: Space, limit: float = 6.5) -> None:
        archs = space.decode(space.sample(np.random.default_rng(0), 30))
        distinct = list(dict.fromkeys(archs))[: len(SUBNETS)]
        self.names = dict(zip([arch.id for arch in distinct], SUBNETS, strict=True))
        predicted, cross_entropy, really = np.array(list(SUBNETS.values())).T
        self.really = dict(zip(self.names, really.tolist(), strict=True))
        latency = CostObjective("latency_ms", lambda genomes: predicted, "ms")
        problem = Problem(
            space,
            [MetricObjective("cross_entropy", "cross_entropy"), latency],
            [Constraint(latency, "max", limit)],
        )
        frame = pd.DataFrame(
            {
                "arch_id": list(self.names),
                "arch": distinct,
                "cross_entropy": cross_entropy,
            }
        )
        result = SearchResult(problem, "made up", frame, pd.DataFrame(), {}, np.array([1.0, 9.0]), 1.0)
        self.validation = Validation(result, lambda genomes: predicted, NOISE_FLOOR)

    def measured(self, error: NotMeasuredError | None = None) -> FakeMeasurements:
        return FakeMeasurements(self.really, error)

    def run(self, measured: FakeMeasurements, connection: object = None) -> NotMeasuredError | None:
        return measure_fronts([self.validation], measured, connection or Local(), silent)  # type: ignore[arg-type]

    def named(self, ids: Iterable[str]) -> list[str]:
        return [self.names[i] for i in ids]


def test_what_misses_the_limit_is_replaced_by_the_next_that_keeps_it(tiny: Space) -> None:
    case = Case(tiny)
    measured = case.measured()
    assert case.run(measured) is None
    # "slow" dominates "next" and "close" until it is measured, and "close" dominates no one: 6.3 > 6.2
    assert sorted(case.named(measured.calls[0])) == ["middle", "slow", "small"]
    assert set(case.named(measured.calls[1])) <= {"next", "close"}
    front = case.validation.front(measured.ms, measured_only=True)
    assert case.named(front["arch_id"]) == ["small", "middle", "next"]
    assert front["measured_latency_ms"].tolist() == [2.0, 4.0, 6.3]
    assert front["latency_ms"].tolist() == [2.0, 4.0, 6.2]
    marked = case.validation.marked(measured.ms)
    keeps = dict(zip(case.named(marked["arch_id"]), marked["keeps_limits"], strict=True))
    assert (keeps["slow"], keeps["next"], keeps["close"]) == (False, True, False)


def test_nothing_is_measured_twice_and_the_rounds_are_bounded(tiny: Space) -> None:
    case = Case(tiny)
    measured = case.measured()
    measured.really = dict.fromkeys(measured.really, 99.0)
    case.run(measured)
    called = [i for call in measured.calls for i in call]
    assert len(called) == len(set(called))
    assert len(measured.calls) <= MAX_ROUNDS
    front = case.validation.front(measured.ms, measured_only=True)
    assert len(front)
    assert not front["keeps_limits"].any()  # none keeps it, and the front says so


def test_predictions_are_corrected_by_what_was_measured(tiny: Space) -> None:
    case = Case(tiny)
    three_times = {i: 3 * SUBNETS[name][0] for i, name in case.names.items() if name == "small"}
    # by belief everything but "small", 6.0, misses 6.5 ms then
    assert case.named(case.validation.front(three_times)["arch_id"]) == ["small"]


def test_device_that_is_reached_by_hand_leaves_the_front_as_predicted(tiny: Space) -> None:
    case, error = Case(tiny), NotMeasuredError("carry")
    measured = case.measured(error)
    assert case.run(measured) is error
    front = case.validation.front(measured.ms)
    assert front["measured_latency_ms"].isna().all()
    assert case.named(front["arch_id"]) == ["small", "middle", "slow"]


def test_bundle_with_nothing_to_measure_is_not_written(
    tiny: Space, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    case = Case(tiny)
    measured = case.measured()
    case.run(measured)
    n_calls = len(measured.calls)
    assert case.run(measured, OfflineBundle(out=tmp_path / "bundle")) is None
    assert len(measured.calls) == n_calls
    assert "no bundle was written" in caplog.text


def test_results_that_came_back_are_one_round(tiny: Space, tmp_path_factory: pytest.TempPathFactory) -> None:
    case = Case(tiny)
    measured = case.measured()
    back = OfflineBundle(results=tmp_path_factory.getbasetemp() / "results.json")
    assert case.run(measured, back) is None
    assert measured.calls == []
