"""Steps of a run in a space of transformers: training, evaluation, search, export and benchmark."""

import logging
from pathlib import Path

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
@pytest.mark.usefixtures("quick_search")
def test_all_steps_of_a_run(nas: Nas, recipe: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "nas")
    run = tmp_path / "run"

    def done(*command: object) -> str:
        answer = nas(*command)
        assert answer.code == 0, answer.err
        return answer.out

    done("train", "--config", recipe, "--out", run)
    assert "the space tiny-vit has no batch norms: its subnets need no recalibration" in caplog.text
    rows = nas("evaluate", run, "--samples", 3, "--json").json
    assert len(rows) == 3
    for precision in ("fp32", "int8"):
        done("export", run, "--arch", "largest", "--precision", precision)
    models = sorted((run / EXPORTS).rglob("*.onnx"))
    assert len(models) == 2
    done("benchmark", *models)
    store = ProfileStore(tmp_path / "profiles")
    store.save(make_device(RunDir(run).space()))
    options = ("--device", "desk", "--profiles", store.directory, "--budget", 10, "--predictor", "ridge")
    done("search", run, *options, "--unmeasured")
    assert "search: 10 evaluations of 540 validation images, about" in caplog.text


def test_options_for_batch_norms_have_no_effect(nas: Nas, recipe: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    refused = nas("train", "--config", recipe, "--out", run, "--set", "batch_norm.synchronized=true")
    assert_refused(refused, "batch_norm has no effect in the space 'tiny-vit', which has no batch norms")
    assert not run.exists() or not any(run.iterdir())
    assert nas("train", "--config", recipe, "--out", run).code == 0
    for option in (("--calibration", "ofa"), ("--calibration-images", 32)):
        assert_refused(nas("evaluate", run, *option), "no effect in the space 'tiny-vit'")
    store = ProfileStore(tmp_path / "profiles")
    store.save(make_device(RunDir(run).space()))
    search = nas("search", run, "--device", "desk", "--profiles", store.directory, "--noise-ceiling", 5)
    assert_refused(search, "--noise-ceiling must be 0 in the space 'tiny-vit', got 5")
