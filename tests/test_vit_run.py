"""Steps of a run in a space of transformers: training, evaluation, search, export and benchmark."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Nas, assert_refused, make_device

from hw_profiles.store import ProfileStore
from nas.runs.files import EXPORTS
from nas.runs.run_dir import RunDir

TINY = """\
family: vit
name: tiny-vit
outputs: 10
channels: 1
resolutions: [4, 8]
patch: 2
width: [4, 6]
depth: [1, 2]
heads: [1, 2]
head_dim: 4
mlp_ratio: [1, 2]
"""
RECIPE = """\
space: {space}
epochs: 1
data: {{dataset: digits, batch_size: 256}}
optimizer: {{kind: adamw}}
regularization: {{drop_connect: 0.1}}
compute: {{accelerator: cpu}}
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A recipe of one epoch for a tiny space of transformers."""
    (tmp_path / "space.yaml").write_text(TINY)
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE.format(space=tmp_path / "space.yaml"))
    return path


@pytest.mark.slow
@pytest.mark.usefixtures("quick_measuring", "quick_search")
def test_recipe_for_digits_to_benchmarked_files(nas: Nas, tmp_path: Path) -> None:
    run, profiles = tmp_path / "run", ("--profiles", tmp_path / "profiles")

    def done(*command: object) -> Any:
        answer = nas(*command, "--json")
        assert answer.code == 0, answer.err
        return answer.json

    assert nas("train", "--config", "vit-digits", "--out", run).code == 0
    rows = done("evaluate", run, "--samples", 100)
    assert np.median([row["top1"] for row in rows]) >= 0.96
    done("profile", run, "--device", "here", *profiles, "--held-out", 8)
    (step, *_) = done("search", run, "--device", "here", *profiles, "--budget", 20, "--predictor", "ridge")[
        "cost"
    ]["steps"]
    assert step["evaluations"] == 20
    for precision in ("fp32", "int8"):
        done("export", run, "--pick", "knee", "--precision", precision)
    models = sorted((run / EXPORTS).rglob("*.onnx"))
    cards = [json.loads(model.with_suffix(".json").read_text()) for model in models]
    assert {card["precision"] for card in cards} == {"fp32", "int8"}
    assert {card["calibration"] for card in cards} == {"none"}
    for card in cards:
        difference = card["validation_metrics"]["top1"] - card["fp32_validation_metrics"]["top1"]
        assert abs(difference) <= 0.01
    assert len(done("benchmark", *models)) == 2
    assert nas("report", run).code == 0


def test_space_without_batch_norms(
    nas: Nas, recipe: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "nas")
    run = tmp_path / "run"
    refused = nas("train", "--config", recipe, "--out", run, "--set", "batch_norm.synchronized=true")
    assert_refused(refused, "batch_norm has no effect in the space 'tiny-vit', which has no batch norms")
    assert not run.exists() or not any(run.iterdir())
    assert nas("train", "--config", recipe, "--out", run).code == 0
    assert "the space tiny-vit has no batch norms: its subnets need no recalibration" in caplog.text
    assert nas("evaluate", run).code == 0
    for option in (("--calibration", "ofa"), ("--calibration-images", 32)):
        assert_refused(nas("evaluate", run, *option), "no effect in the space 'tiny-vit'")
    store = ProfileStore(tmp_path / "profiles")
    store.save(make_device(RunDir(run).space()))
    search = nas("search", run, "--device", "desk", "--profiles", store.directory, "--noise-ceiling", 5)
    assert_refused(search, "--noise-ceiling must be 0 in the space 'tiny-vit', got 5")
