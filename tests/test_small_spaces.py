"""Runs of spaces with so few subnets that there is nothing to predict."""

from pathlib import Path

import pytest
from conftest import make_device

from nas.evaluation.trained_run import TrainedRun
from nas.recipes.groups import ComputeConfig, DataConfig
from nas.recipes.recipe import Recipe
from nas.report.report_run import report_run
from nas.runs.files import BASELINE, PREDICTOR, SEARCH
from nas.search.known_front import known_front
from nas.search.options import SearchOptions
from nas.search.search_run import search_run
from nas.training.train import train


@pytest.mark.usefixtures("quick_search")
@pytest.mark.parametrize(
    ("widths", "n"),
    [
        ([4], 1),
        pytest.param([4, 6, 8], 3, marks=pytest.mark.slow),
        pytest.param([*range(4, 30, 2)], 13, marks=pytest.mark.slow),
    ],
)
def test_every_subnet_is_evaluated_and_all_that_follows_works(
    widths: list[int], n: int, tmp_path: Path
) -> None:
    (tmp_path / "small.yaml").write_text(
        f"""
name: small
outputs: 10
channels: 1
resolutions: [8]
divisor: 2
stem: {{width: [4]}}
stages: [{{width: {widths}, depth: [1], kernel: [3], expand: [1], stride: 2}}]
head: {{width: [8]}}
"""
    )
    recipe = Recipe(
        space=str(tmp_path / "small.yaml"),
        epochs=1,
        data=DataConfig(dataset="digits"),
        compute=ComputeConfig(accelerator="cpu"),
    )
    run = train(recipe, tmp_path / "run")
    trained = TrainedRun.open(run.path)
    assert trained.space.n_subnets == n
    for option in ({"algorithm": "nsga2"}, {"predictors": ["ridge"]}, {"noise_ceiling": 3}):
        with pytest.raises(ValueError, match=f"has no effect: all {n} subnets of the space 'small' are"):
            search_run(trained, make_device(trained.space), SearchOptions(**option))
    outcome = search_run(trained, make_device(trained.space), SearchOptions(baseline="random"))
    assert outcome.random
    assert len(outcome.result.evaluations) == len(outcome.random.evaluations) == n
    assert len(trained.archive.frame("validation", "default:512:seed0")) == n
    results = run.search()
    assert results.read_json(SEARCH)["algorithm"] == "exhaustive"
    assert results.has(BASELINE)
    assert not results.has(PREDICTOR)  # nothing was predicted
    picked, _ = known_front(run, make_device(trained.space))
    assert set(picked["arch_id"]) == set(outcome.front["arch_id"])
    assert (picked["metrics_are"] == "measured").all()
    assert report_run(trained)[0].exists()
