"""A task of a user's own, regression of one number, from training to the report."""

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from conftest import BUDGET, TINY_YAML, Nas, assert_refused, make_device

from nas import tasks
from nas.evaluation.trained_run import TrainedRun
from nas.export.export_run import export_subnets, exported_table
from nas.recipes import recipe as recipes
from nas.report.report_run import report_run
from nas.runs.files import FRONT, PREDICTOR, SEARCH, SUPERNET, TRAINING_LOG
from nas.runs.run_dir import RunDir
from nas.search.options import SearchOptions
from nas.search.search_run import search_run
from nas.tasks import Task
from nas.training.train import train

SOURCE = """
import numpy as np
from torch.nn import functional as F

from nas.data import ImageDataset, ImageOnly, Split
from nas.data.digits import load
from nas.tasks import Task
from nas.tasks.base import Quantity
from nas.tasks.metrics import MeanMetric, SplitMetric


def squared_error(outputs, targets):
    return (outputs - targets) ** 2


def correlation(outputs, targets):
    return np.corrcoef(outputs.flatten(), targets.flatten())[0, 1]


class Regression(Task):
    metrics = {
        "mse": MeanMetric("mse", "min", "", squared_error),
        "r": SplitMetric("r", "max", "", correlation),
    }
    primary = Quantity("mse", "squared error", "mean squared error")
    headline = Quantity("r", "correlation", "correlation", noticeable=0.01)
    distillation_losses = {"mse": F.mse_loss}

    def check(self, name, dataset):
        if dataset.split("train").targets.dtype.kind != "f":
            raise ValueError(f"the data set {name!r} must have floating-point targets")

    def loss(self, outputs, targets, smoothing=0.0):
        return F.mse_loss(outputs, targets)


regression = Regression()


def standardized(values):
    return ((values - values.mean()) / values.std()).astype(np.float32)


def brightness(root, split_seed):
    digits = load(root, split_seed)
    splits = {
        name: Split(split.images, standardized(split.images.mean(axis=(1, 2)))[:, None])
        for name, split in digits.splits.items()
    }
    return ImageDataset(("brightness",), digits.preprocess, digits.augment, splits)
"""
MODULE = "own_task"
TASK, DATASET = f"{MODULE}:regression", f"{MODULE}:brightness"


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The current folder holds the user's module; gives its name."""
    (tmp_path / f"{MODULE}.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    importlib.invalidate_caches()
    yield MODULE
    sys.modules.pop(MODULE, None)


def recipe_text(folder: Path, **keys: object) -> str:
    (folder / "tiny.yaml").write_text(TINY_YAML)
    content = {
        "space": str(folder / "tiny.yaml"),
        "task": TASK,
        "epochs": 2,
        "data": {"dataset": DATASET, "batch_size": 128},
        "compute": {"accelerator": "cpu"},
    }
    return json.dumps(content | keys)


@pytest.mark.usefixtures("module")
def test_parts_of_a_task_that_are_not_defined_have_a_default() -> None:
    task = tasks.get(TASK, allow_import=True)
    assert isinstance(task, Task)
    outputs, targets = torch.tensor([[1.0], [0.5]]), torch.tensor([[0.0], [0.5]])
    assert task.errors(outputs, targets).tolist() == [2.0, 0.0]  # d (x - y)^2 / dx = 2 (x - y)
    assert task.strata(targets.numpy()).tolist() == [0, 0]
    assert task.teacher_signal(outputs) is outputs
    assert task.objectives == {"mse": "mse", "r": "r"}
    assert task.primary_objective == "mse"


@pytest.mark.usefixtures("module")
@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"loss": {"label_smoothing": 0.1}}, "has no label smoothing, got loss.label_smoothing 0.1"),
        ({"augmentation": {"mixup_alpha": 0.2}}, "cannot mix targets"),
        ({"augmentation": {"kind": "crop"}}, r"one of \['dataset'\], got 'crop'"),
        ({"distillation": {"kind": "inplace", "loss": "kl"}}, r"one of \['mse'\] for the task .*got 'kl'"),
        ({"data": {"dataset": "digits"}}, "'digits' must have floating-point targets"),
        ({"task": "regression"}, r"task must be one of \['classification'\] or module:object"),
        ({"task": f"{MODULE}:brightness"}, "must be Task, but has no"),
        ({"task": "classification"}, "must have at least two classes"),
    ],
)
def test_what_does_not_fit_a_task_is_refused_before_training(
    keys: dict[str, object], message: str, tmp_path: Path
) -> None:
    recipe = recipes.parse(recipe_text(tmp_path, **keys))
    with pytest.raises(ValueError, match=message):
        train(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("module", "quick_search")
def test_regression_of_one_number_goes_the_whole_way(nas: Nas, tmp_path: Path) -> None:
    run = train(recipes.parse(recipe_text(tmp_path)), tmp_path / "run")
    assert run.has(SUPERNET)
    assert np.isfinite(run.read_csv(TRAINING_LOG)[["loss_largest", "r_largest"]]).all(axis=None)
    assert_refused(nas("evaluate", run.path), "--allow-import")
    (row,) = nas("evaluate", run.path, "--arch", "largest", "--allow-import", "--json").json
    trained = TrainedRun.open(run.path, allow_import=True)
    assert trained.space.config.outputs == 1
    assert row["mse"] < 1  # that of the best constant

    search_run(trained, make_device(trained.space), SearchOptions(predictors=["ridge"], budget=BUDGET))
    results = RunDir.open(run.path).search()
    assert results.read_json(SEARCH)["objectives"] == ["mse", "latency_ms"]
    assert results.read_json(PREDICTOR)["metric"] == "mse"
    front = results.read_csv(FRONT)
    assert {"mse", "r", "predicted_mse"} <= set(front)
    picked = nas("pick", run.path, "--device", "desk", "--max", f"mse={2 * front['mse'].max()}", "--json")
    assert picked.code == 0

    (exported,) = export_subnets(trained)
    (shown,) = exported_table([exported], trained.task.headline.metric).to_dict("records")
    assert shown["r"] == pytest.approx(front.set_index("arch_id").loc[exported.arch.id, "r"])
    assert onnxruntime.InferenceSession(exported.path).get_outputs()[0].shape == [1, 1]
    card = json.loads(exported.path.with_suffix(".json").read_text())
    assert card["output_names"] == ["brightness"]
    page, figures = report_run(trained)
    assert [name for name, *_ in figures][:3] == [
        "test correlation, largest subnet",
        "test correlation, median of 3 random subnets",
        "test correlation, smallest subnet",
    ]
    assert "squared error, validation" in page.read_text()
