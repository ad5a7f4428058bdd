"""The figures that a run is judged by."""

import math

import pandas as pd
import pytest
from conftest import make_device

from nas import tasks
from nas.cli.demo_run import targets
from nas.report.figures_of_merit import (
    hypervolume_figures,
    latency_figures,
    met,
    predictor_figures,
    quality_figures,
)
from nas.report.figures_of_merit import (
    test_hypervolume as hypervolume_on_test,
)
from nas.search.predictor_record import PredictorRecord, RankCorrelation
from search_spaces import Space

TASK = tasks.get("classification")


def test_accuracy_is_the_median_of_each_group_in_percent() -> None:
    groups = ["largest", "smallest", "random", "random", "random", "chosen"]
    test = pd.DataFrame({"group": groups, "top1": [0.99, 0.9, 0.95, 0.97, 0.2, 1.0]})
    values = [round(value, 9) for _, value, _, _ in quality_figures(test, TASK)]
    assert values == [99.0, 95.0, 90.0]
    (alone,) = quality_figures(pd.DataFrame({"group": ["trained"], "top1": [0.8]}), TASK)
    assert alone[0] == "test top-1, the fine-tuned subnet"
    assert alone[1] == pytest.approx(80)


def test_hypervolume_counts_the_chosen_by_their_test_cross_entropy() -> None:
    front = pd.DataFrame({"arch_id": ["a", "b"], "cross_entropy": [0.0, 0.0], "latency_ms": [9.0, 3.0]})
    front["measured_latency_ms"] = [1.0, math.nan]  # of b, the prediction counts
    test = pd.DataFrame(
        {
            "group": ["chosen", "chosen", "random"],
            "arch_id": ["a", "b", "a"],
            "cross_entropy": [0.5, 0.25, 0.5],
        }
    )
    # up to (1, 4): (1 - 0.5) x (4 - 1) by a, and (0.5 - 0.25) x (4 - 3) more by b
    found = hypervolume_on_test(front, test, {"cross_entropy": 1.0, "latency_ms": 4.0}, TASK)
    assert found == pytest.approx(1.5 + 0.25)


def test_search_is_divided_by_random_search_where_that_found_anything() -> None:
    assert [value for _, value, _, _ in hypervolume_figures({"iterative": 3.0, "random": 2.0})] == [1.5]
    assert hypervolume_figures({"iterative": 3.0, "random": 0.0}) == []
    assert hypervolume_figures({"iterative": 3.0}) == []


def test_latency_target_follows_the_noise_floor(tiny: Space) -> None:
    profile = make_device(tiny).profile
    bounds = {}
    for floor in (0.005, 0.02, 0.05):
        measured = profile.model_copy(update={"noise_floor": floor})
        wanted = targets("digits", measured)
        figures = latency_figures(measured)[:2]
        bounds[floor] = [(wanted[name], met(value, wanted[name])) for name, value, _, _ in figures]
    # the larger of 3 % and thrice the floor; the held-out error of the made-up device is (5 + 0 + 0) / 3 %
    assert bounds[0.005] == [("<= 3.00", True), ("<= 4", True)]
    assert bounds[0.02] == [("<= 6.00", True), ("<= 4", True)]
    assert bounds[0.05] == [("<= 15.00", True), ("machine too noisy", False)]


def test_figures_of_the_predictor_and_its_ceiling() -> None:
    def correlation(tau: float) -> RankCorrelation:
        return RankCorrelation(n=10, kendall_tau=tau, low=0.1, high=1.0)

    record = PredictorRecord(
        metric="cross_entropy",
        name="ridge",
        cross_validation=correlation(0.7),
        before_evaluation=None,
        ceiling=correlation(0.9),
        rounds=[],
    )
    assert [value for _, value, _, _ in predictor_figures(record)] == [0.7, 0.9]


@pytest.mark.parametrize(
    ("value", "target", "expected"),
    [
        (97.0, ">= 97", True),
        (96.9, ">= 97", False),
        (1.02, "> 1.02", False),
        (0.5, "<= 0.5", True),
        (0.5, "< 0.5", False),
        (1.0, "", None),
        (5.0, "machine too noisy", False),
        (math.nan, ">= 0", False),
    ],
)
def test_targets(value: float, target: str, expected: bool | None) -> None:
    assert met(value, target) is expected
