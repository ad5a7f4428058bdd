"""Accuracies of a search as the device computes them."""

import numpy as np
import pytest
from conftest import BUDGET, make_device

from nas.deployed import Target
from nas.deployed_accuracy import ACCURACY_IN, DeployedAccuracies
from nas.export_precision import export_lower
from nas.search import search
from nas.search_problem import make_problem
from nas.search_result import SearchResult
from nas.trained_run import TrainedRun
from search_spaces import Arch

pytestmark = pytest.mark.usefixtures("quick_search")


@pytest.fixture
def result(trained: TrainedRun) -> SearchResult:
    problem = make_problem(trained.space, make_device(trained.space), ["accuracy", "latency_ms"])
    return search(problem, trained.evaluator(), algorithm="random", budget=BUDGET, seed=0)


def test_rows_that_were_evaluated_in_int8_say_so(trained: TrainedRun, result: SearchResult) -> None:
    before = result.evaluations.copy()
    archs = [Arch.from_json(text) for text in before["arch"][:3]]
    deployed = DeployedAccuracies(trained, Target("int8"), trained.evaluator().measurement.metrics)
    assert deployed.missing(archs) == archs
    deployed.add(archs[:2])
    assert deployed.missing(archs) == archs[2:]
    after = deployed.beside(result).evaluations
    assert list(after[ACCURACY_IN]) == ["int8"] * 2 + ["fp32"] * (len(after) - 2)
    for i, arch in enumerate(archs[:2]):
        metrics = export_lower(trained, arch, Target("int8", batch=None)).metrics
        row = after.iloc[i]
        assert row["top1"] == row["accuracy"] == metrics["top1"]
        assert row["cross_entropy"] == pytest.approx(metrics["cross_entropy"])
        assert row["cross_entropy"] != before["cross_entropy"][i]
    np.testing.assert_array_equal(after["cross_entropy"][2:], before["cross_entropy"][2:])
    assert result.evaluations.equals(before)


def test_fp32_needs_nothing(trained: TrainedRun, result: SearchResult) -> None:
    deployed = DeployedAccuracies(trained, Target(), trained.evaluator().measurement.metrics)
    assert deployed.missing([trained.space.largest]) == []
    after = deployed.beside(result).evaluations
    assert set(after[ACCURACY_IN]) == {"fp32"}
    assert after.drop(columns=ACCURACY_IN).equals(result.evaluations)
