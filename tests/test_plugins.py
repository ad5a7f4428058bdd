"""Parts of a user's own, from files outside the package."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from conftest import epoch

from nas import plugins, tasks
from nas.data import catalog
from nas.data.batches import eval_batches
from nas.tasks import metrics
from nas.tasks.classification.metrics import METRICS

MODULE = "users_own_parts"
SOURCE = '''
import numpy as np
from nas.data import ImageDataset, Preprocess, Split

IMPORTED = True


def stripes(root, split_seed):
    """Vertical against horizontal stripes."""
    image = np.tile(np.array([0, 255], dtype=np.uint8), (8, 4))
    images, labels = np.stack([image, image.T] * 6), np.array([0, 1] * 6)
    split = Split(images, labels)
    splits = {"train": split, "validation": split, "test": split}
    return ImageDataset(("vertical", "horizontal"), Preprocess(mean=(0.5,), std=(0.5,)), None, splits)


def no_dataset(root, split_seed):
    return [1, 2, 3]


class Count:
    n = 0

    def update(self, logits, labels):
        self.n += int((logits.argmax(1) != labels).sum())

    def result(self):
        return self.n


class Errors:
    name, direction, unit = "errors", "min", "images"

    def accumulator(self):
        return Count()


class Sideways(Errors):
    direction = "sideways"


errors, sideways, number = Errors(), Sideways(), 3
'''


@pytest.fixture(autouse=True)
def users_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A custom module in the current folder, which each test imports again."""
    (tmp_path / f"{MODULE}.py").write_text(SOURCE)
    (tmp_path / "broken.py").write_text("raise RuntimeError('no license\\nfound')")
    (tmp_path / "script.py").write_text("import argparse\nargparse.ArgumentParser().exit(2)")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    importlib.invalidate_caches()
    yield
    sys.modules.pop(MODULE, None)


def test_a_dataset_of_the_users_own_trains_and_evaluates() -> None:
    dataset = catalog.get(f"{MODULE}:stripes", allow_import=True)
    assert dataset.output_names == ("vertical", "horizontal")
    x, y = next(eval_batches(dataset, "validation", 16, 4))
    assert x.shape == (4, 1, 16, 16)
    assert y.tolist() == [0, 1, 0, 1]
    x, _ = epoch(dataset, [8], 12, torch.Generator())[0]
    assert set(x.flatten().tolist()) == {-1.0, 1.0}


def test_a_metric_of_the_users_own_is_computed() -> None:
    metric = metrics.get(f"{MODULE}:errors", METRICS, allow_import=True)
    accumulators = metrics.Accumulators({"errors": metric}, "the network")
    for _ in range(2):
        accumulators.update(torch.eye(3), torch.tensor([0, 1, 1]))
    assert accumulators.results() == {"errors": 2.0}
    assert (metric.name, metric.direction, metric.unit) == ("errors", "min", "images")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_dataset", "must be Dataset, but has no augment, output_names, preprocess, split"),
        ("number", "must be a callable, but has no __call__"),
        ("missing", "cannot import the dataset .*AttributeError"),
    ],
)
def test_a_wrong_dataset_is_refused_in_one_line(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        catalog.get(f"{MODULE}:{name}", allow_import=True)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("number", "must be Metric, but has no accumulator, direction, name, unit"),
        ("Errors", "must be an object, got a class"),
        ("sideways", "direction 'min' or 'max', got 'sideways'"),
    ],
)
def test_a_wrong_metric_is_refused_in_one_line(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        metrics.get(f"{MODULE}:{name}", METRICS, allow_import=True)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["absent_module:thing", "broken:thing", "script:main", ":thing", f"{MODULE}:"]
)
def test_message_of_a_failed_import_is_one_line(name: str) -> None:
    with pytest.raises(ValueError, match=f"cannot import the metric '{name}'") as caught:
        metrics.get(name, METRICS, allow_import=True)
    assert "\n" not in str(caught.value)


def test_a_name_from_a_record_is_not_imported_without_permission() -> None:
    for refused in (
        lambda: catalog.get(f"{MODULE}:stripes"),
        lambda: metrics.get(f"{MODULE}:errors", METRICS),
        lambda: tasks.get(f"{MODULE}:errors"),
    ):
        with pytest.raises(ValueError, match="--allow-import"):
            refused()
    assert MODULE not in sys.modules
    assert metrics.get("top1", METRICS) is METRICS["top1"]


def test_attributes_of_attributes_are_found() -> None:
    assert plugins.resolve("metric", f"{MODULE}:errors.name.upper", {}, allow_import=True)() == "ERRORS"


def test_the_current_folder_is_searched_first_and_left_last(tmp_path: Path) -> None:
    """A module of the user's may have the name of an installed one; it hides no other module afterwards."""
    (tmp_path / "wave.py").write_text("mine = len")  # `wave` is in the standard library
    assert plugins.resolve("metric", "wave:mine", {}, allow_import=True) is len
    assert sys.path.count(str(tmp_path)) == 1
    assert sys.path[-1] == str(tmp_path)
    del sys.modules["wave"]
    assert hasattr(importlib.import_module("wave"), "Wave_read")
