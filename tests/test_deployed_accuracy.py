"""Accuracies of a search as the device computes them."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import BUDGET, make_device

from hw_profiles.latency_models.prediction_error import compare
from nas.evaluation.deployed import Target
from nas.evaluation.deployed_evaluator import DeployedEvaluator
from nas.evaluation.trained_run import TrainedRun
from nas.export.export import export
from nas.runs.files import SEARCH, SEARCH_CSV
from nas.runs.tables import EVALUATED_AS
from nas.search.deployed_accuracy import DeployedAccuracies
from nas.search.known_front import known_front
from nas.search.options import SearchOptions
from nas.search.search_loop import search
from nas.search.search_problem import make_problem
from nas.search.search_result import SearchResult
from nas.search.search_run import search_run

pytestmark = pytest.mark.usefixtures("quick_search")


@pytest.fixture
def result(trained: TrainedRun) -> SearchResult:
    problem = make_problem(
        trained.space, trained.task, make_device(trained.space), ["accuracy", "latency_ms"]
    )
    return search(problem, trained.evaluator(), algorithm="random", budget=BUDGET, seed=0)


def deployed_in(trained: TrainedRun, precision: str) -> DeployedAccuracies:
    evaluator = trained.evaluator()
    return DeployedAccuracies(
        trained.space, evaluator, DeployedEvaluator(trained, Target(precision), evaluator.metrics)
    )


def test_rows_say_the_precision_that_they_were_evaluated_in(
    trained: TrainedRun, result: SearchResult
) -> None:
    before = result.evaluations.copy()
    archs = before["arch"][:3].tolist()
    deployed = deployed_in(trained, "int8")
    assert deployed.missing(archs) == archs
    deployed.add(archs[:2])
    assert deployed.missing(archs) == archs[2:]
    after = deployed.applied_to(result).evaluations
    assert list(after[EVALUATED_AS]) == ["int8 accuracy"] * 2 + ["fp32 accuracy"] * (len(after) - 2)
    for i, arch in enumerate(archs[:2]):
        metrics = export(trained, arch, Target("int8", batch=None)).metrics
        row = after.to_dict("records")[i]
        assert row["top1"] == row["accuracy"] == metrics["top1"]
        assert row["cross_entropy"] == pytest.approx(metrics["cross_entropy"])
        assert row["cross_entropy"] != before.to_dict("records")[i]["cross_entropy"]
    np.testing.assert_array_equal(after["cross_entropy"][2:], before["cross_entropy"][2:])
    assert result.evaluations.equals(before)

    # the archive has them, and the search's own evaluations are as before
    again = deployed_in(trained, "int8")
    assert again.missing(archs[:2]) == archs[:2]
    again.add(archs[:2])
    assert again.applied_to(result).evaluations.equals(after)
    assert len(trained.archive.frame()) == len(before) + 2

    as_searched = deployed_in(trained, "fp32")
    assert as_searched.missing([trained.space.largest]) == []
    plain = as_searched.applied_to(result).evaluations
    assert set(plain[EVALUATED_AS]) == {"fp32 accuracy"}
    assert plain.drop(columns=EVALUATED_AS).equals(before)


@pytest.mark.slow
def test_a_front_for_an_int8_device_is_evaluated_in_int8(trained: TrainedRun) -> None:
    made = make_device(trained.space)
    key = made.profile.key.model_copy(update={"precision": "int8", "int8_for": "arm"})
    truth = np.array([1.0, 2.0, 3.0])
    update = {"key": key, "held_out": compare(1.2 * truth, truth)}
    device = replace(made, profile=made.profile.model_copy(update=update))
    front = search_run(trained, device, SearchOptions(predictors=["ridge"], budget=BUDGET)).front
    assert set(front[EVALUATED_AS]) == {"int8 accuracy"}
    arch = front["arch"][0]
    metrics = export(trained, arch, Target("int8", None, "arm")).metrics
    assert front["cross_entropy"][0] == pytest.approx(metrics["cross_entropy"])
    searched = trained.run.search().read_csv(SEARCH_CSV)
    # the others say that they are not
    assert set(searched[EVALUATED_AS]) == {"int8 accuracy", "fp32 accuracy"}
    # nas pick shows the same quantity, and judges limits by it
    picked, _ = known_front(trained.run, device)
    assert set(picked[EVALUATED_AS]) == {"int8 accuracy"}
    int8 = searched[searched[EVALUATED_AS] == "int8 accuracy"].set_index("arch_id")["cross_entropy"]
    assert picked["cross_entropy"].tolist() == int8[picked["arch_id"]].tolist()
    limit = float(picked["cross_entropy"].min())
    fp32 = trained.archive.frame("validation", "default:512:seed0").set_index("arch_id")["cross_entropy"]
    rows, _ = known_front(trained.run, device, maxima=[f"cross_entropy={limit}"])
    assert set(rows[EVALUATED_AS]) == {"int8 accuracy"}
    # a limit that no subnet is known to meet in int8: what is known in fp32 alone is offered, and says so
    wide = float(fp32[[i for i in fp32.index if i not in int8.index]].min())
    if wide < limit:
        others, _ = known_front(trained.run, device, maxima=[f"cross_entropy={(wide + limit) / 2}"])
        assert set(others[EVALUATED_AS]) == {"fp32 accuracy"}
        assert not set(others["arch_id"]) & set(int8.index)
    assert "predicted worse than by MACs only" in trained.run.search().read_json(SEARCH)["warnings"][0]
