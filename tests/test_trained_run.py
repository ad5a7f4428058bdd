"""A run opened for the steps after training."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from conftest import TINY_YAML, make_device

import search_spaces
from hw_profiles.device_files import write_device
from nas.data.digits import load as load_digits
from nas.evaluation.trained_run import TrainedRun
from nas.recipes.groups import ComputeConfig, DataConfig
from nas.recipes.recipe import Recipe
from nas.runs.files import ARCHIVE_CSV, PROFILES, RECIPE, RUN, SEARCH, SPACE, SUPERNET
from nas.runs.run_dir import RunDir
from nas.training.train import train

SOURCE = """
from dataclasses import replace
from nas.data.digits import load
from nas.tasks.metrics import SplitMetric


def rot(root, split_seed):
    return load(root, split_seed)


def letters(root, split_seed):
    return replace(load(root, split_seed), output_names=tuple("abcdefghij"))


def count(logits, labels):
    return (logits.argmax(1) != labels).sum()  # a tensor will do


wrong = SplitMetric("wrong", "min", "images", count)
"""


@pytest.fixture
def own_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The current folder holds the user's module; gives its name."""
    (tmp_path / "own_images.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    importlib.invalidate_caches()
    yield "own_images"
    sys.modules.pop("own_images", None)


def test_opened_run_has_all_that_training_left(trained: TrainedRun) -> None:
    assert trained.space.name == trained.info.space == "tiny"
    assert trained.space.config == trained.run.space().config
    assert list(trained.dataset.output_names) == trained.info.output_names == [str(i) for i in range(10)]
    assert not trained.supernet.training
    assert trained.device() is None


def test_archive_grows_and_is_written_for_people(trained: TrainedRun) -> None:
    trained.evaluator()([trained.space.smallest], "evaluate")
    trained.write_archive_csv()
    assert trained.run.read_csv(ARCHIVE_CSV)["arch_id"].tolist() == [trained.space.smallest.id]


def test_a_metric_asked_for_later_is_added_to_what_is_known(trained: TrainedRun, own_parts: str) -> None:
    arch, wrong = trained.space.largest, f"{own_parts}:wrong"
    (first,) = trained.evaluator()([arch], "evaluate")
    assert list(first) == ["cross_entropy", "top1"]
    (later,) = trained.evaluator(extra_metrics=[wrong, "top1"])([arch], "evaluate")
    assert list(later) == ["cross_entropy", "top1", wrong]
    images = len(trained.dataset.split("validation"))
    assert later == first | {wrong: pytest.approx(images * (1 - first["top1"]))}
    assert trained.evaluator()([arch], "evaluate") == [first]
    (row,) = trained.archive.frame().to_dict("records")
    assert row[wrong] == later[wrong]


def test_last_searched_device(searched: TrainedRun) -> None:
    found = searched.device()
    assert found is not None
    assert found.profile == make_device(searched.space).profile
    (searched.run.file(PROFILES) / "desk" / "profile.json").write_text('{"name": "de')
    with pytest.raises(ValueError, match=r"profile\.json"):
        searched.device()


# ---------------------------------------------------------------------- a user's own data set


def test_custom_code_is_not_imported_without_permission(
    trained: TrainedRun, tmp_path: Path, own_parts: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tiny.yaml").write_text(TINY_YAML)
    recipe = Recipe(
        space=str(tmp_path / "tiny.yaml"),
        epochs=1,
        data=DataConfig(dataset=f"{own_parts}:rot", batch_size=512),
        compute=ComputeConfig(accelerator="cpu"),
    )
    path = train(recipe, tmp_path / "own").path
    sys.modules.pop(own_parts)
    with pytest.raises(ValueError, match=r"dataset 'own_images:rot' is custom code, .*--allow-import"):
        TrainedRun.open(path)
    assert own_parts not in sys.modules
    with pytest.raises(ValueError, match="must be the one of the run, 'own_images:rot', got 'own_images:let"):
        TrainedRun.open(path, dataset=f"{own_parts}:letters")
    assert own_parts not in sys.modules
    for allowed in (
        TrainedRun.open(path, dataset=f"{own_parts}:rot"),
        TrainedRun.open(path, allow_import=True),
    ):
        assert allowed.info.dataset == f"{own_parts}:rot"
        assert allowed.dataset.output_names == load_digits(None, 0).output_names
    sys.modules.pop(own_parts)
    # the recipe that the run recorded is read to be compared; only the one that the user gives is imported
    with pytest.raises(ValueError, match=r"data\.dataset changed since it was started"):
        train(recipe.replace({"data.dataset": "digits"}), path, resume=True)
    assert own_parts not in sys.modules
    assert train(recipe, path, resume=True).path == path


def test_data_set_whose_classes_changed_is_refused(trained: TrainedRun, own_parts: str) -> None:
    info = trained.info.model_copy(update={"dataset": f"{own_parts}:letters"})
    trained.run.write_json(RUN, info)
    with pytest.raises(ValueError, match=r"10 classes .* missing: 0, 1, .*; new: a, b, "):
        TrainedRun.open(trained.run.path, allow_import=True)


# ---------------------------------------------------------------------- damaged and foreign runs


def _truncate(run: RunDir) -> None:
    content = run.file(SUPERNET).read_bytes()
    run.file(SUPERNET).write_bytes(content[: len(content) // 2])


def _pickle(run: RunDir) -> None:
    torch.save({"stem.conv.weight": torch.zeros(1)}, run.file(SUPERNET))


def _other_space(run: RunDir) -> None:
    run.write_text(SPACE, search_spaces.get("digits").to_yaml())


def _other_files(run: RunDir) -> None:
    run.write_text("archive.sqlite", "no database, but long enough to be looked at" * 10)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_truncate, r"supernet\.safetensors is truncated or not a safetensors file"),
        (_pickle, r"supernet\.safetensors is truncated or not a safetensors file"),
        (_other_space, r"supernet\.safetensors does not fit the space of the run"),
        (_other_files, r"cannot use the archive .*: file is not a database"),
        (
            lambda run: run.file(SUPERNET).unlink(),
            "is not trained yet; continue with `nas train --config .* --resume`",
        ),
        (lambda run: run.file(RECIPE).unlink(), "is not a run directory"),
    ],
)
def test_damaged_runs_are_refused_in_one_line(trained: TrainedRun, damage: object, message: str) -> None:
    damage(trained.run)  # type: ignore[operator]
    with pytest.raises(ValueError, match=message) as caught:
        TrainedRun.open(trained.run.path)
    assert "\n" not in str(caught.value)


def test_device_of_a_search_that_names_none_there_is_refused(searched: TrainedRun) -> None:
    write_device(searched.run.file(PROFILES) / "other", make_device(searched.space, "other"))
    searched.run.search().write_json(SEARCH, searched.run.search().read_json(SEARCH) | {"device": "gone"})
    with pytest.raises(ValueError, match=r"cannot read .*gone"):
        searched.device()
