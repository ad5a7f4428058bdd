import re
import signal
import sys
from pathlib import Path

import pytest
import torch
from conftest import TINY_YAML

from nas.evaluation.trained_run import TrainedRun
from nas.recipes.groups import ComputeConfig, DataConfig
from nas.recipes.recipe import Recipe
from nas.runs.files import SUPERNET, TRANSFER
from nas.runs.weights import load_supernet
from nas.torch_backend.supernet import Supernet
from nas.training.checkpoint import Checkpoints, newest_weights
from nas.training.train import train
from nas.training.transfer import Transfer, transfer
from search_spaces import Space, parse

CLASSIFIER = ["head.classifier.bias", "head.classifier.weight"]
DIGITS = [str(digit) for digit in range(10)]


def test_all_tensors_are_loaded_for_equal_classes(trained: TrainedRun) -> None:
    supernet = Supernet(trained.space, seed=1)
    result = transfer(supernet, trained.run.path, DIGITS)
    assert not result.reinitialized
    assert not result.dropped
    assert result.note.endswith(f"{len(result.loaded)} tensors loaded; none re-initialized; none dropped")
    for name, weight in trained.supernet.state_dict().items():
        assert torch.equal(supernet.state_dict()[name], weight)


@pytest.mark.parametrize("classes", [["a", "b", "c"], [*reversed(DIGITS)]])  # another number, another order
def test_classifier_is_reinitialized_for_other_classes(trained: TrainedRun, classes: list[str]) -> None:
    space = trained.space.with_data(outputs=len(classes), channels=1)
    fresh = Supernet(space, seed=1).state_dict()
    supernet = Supernet(space, seed=1)
    result = transfer(supernet, trained.run.path, classes)
    assert result.reinitialized == result.dropped == CLASSIFIER
    assert "re-initialized: head.classifier.bias, head.classifier.weight" in result.note
    source = trained.supernet.state_dict()
    for name, weight in supernet.state_dict().items():
        assert torch.equal(weight, fresh[name] if name in CLASSIFIER else source[name])


def test_stem_is_reinitialized_for_other_channels(trained: TrainedRun) -> None:
    space = trained.space.with_data(outputs=10, channels=3)
    result = transfer(Supernet(space), trained.run.path, DIGITS)
    assert result.reinitialized == result.dropped == ["stem.conv.weight"]


def test_other_space_is_an_error(trained: TrainedRun) -> None:
    other = parse(TINY_YAML.replace("width: [6, 8]", "width: [6, 10]")).with_data(outputs=10, channels=1)
    with pytest.raises(ValueError, match=re.escape("has other choices than 'tiny'; give the recipe space=")):
        transfer(Supernet(other), trained.run.path, DIGITS)
    resized = trained.space.with_data(outputs=10, channels=1, resolutions=(10,))
    assert not transfer(Supernet(resized), trained.run.path, DIGITS).reinitialized


def test_run_without_weights_is_an_error(trained: TrainedRun, tiny: Space) -> None:
    trained.run.file(SUPERNET).unlink()
    for checkpoint in Checkpoints(trained.run).paths():
        checkpoint.unlink()
    with pytest.raises(ValueError, match="has neither trained weights nor a checkpoint yet"):
        transfer(Supernet(tiny), trained.run.path, DIGITS)


def test_newest_checkpoint_of_an_unfinished_run_is_loaded(trained: TrainedRun) -> None:
    whole = newest_weights(trained.run)
    trained.run.file(SUPERNET).unlink()
    state = torch.load(Checkpoints(trained.run).paths()[0], weights_only=True)["supernet"]
    assert whole.keys() == state.keys()
    for name, weight in newest_weights(trained.run).items():
        assert torch.equal(weight, state[name])


FIVES = """
from dataclasses import replace

from nas.data.dataset import Split
from nas.data.digits import load


def high(root, split_seed):
    '''The digits 5 to 9.'''
    digits = load(root, split_seed)

    def part(split):
        rows = split.targets >= 5
        return Split(split.images[rows], split.targets[rows] - 5)

    splits = {name: part(split) for name, split in digits.splits.items()}
    return replace(digits, output_names=digits.output_names[5:], splits=splits)
"""


@pytest.fixture
def recipe(trained: TrainedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    """A recipe that starts from the trained run and has other classes."""
    (tmp_path / "fives.py").write_text(FIVES)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "fives", raising=False)
    return Recipe(
        space=str(trained.run.file("space.yaml")),
        epochs=2,
        data=DataConfig(dataset="fives:high", batch_size=128),
        compute=ComputeConfig(accelerator="cpu"),
        init=str(trained.run.path),
    )


def test_training_starts_with_the_weights_of_another_run(
    trained: TrainedRun, recipe: Recipe, tmp_path: Path
) -> None:
    still = recipe.replace({"optimizer.lr": 1e-30, "schedule.warmup_epochs": 0.0})
    run = train(still, tmp_path / "still")
    result = run.read_model(TRANSFER, Transfer)
    assert (result.source, result.reinitialized) == (str(trained.run.path), CLASSIFIER)
    before, after = trained.supernet.state_dict(), load_supernet(run).state_dict()
    assert after["head.classifier.bias"].shape == (5,)
    for name in before.keys() - set(CLASSIFIER):
        torch.testing.assert_close(after[name], before[name])


def test_resumed_training_does_not_load_the_initial_weights(
    trained: TrainedRun, recipe: Recipe, tmp_path: Path
) -> None:
    def interrupt(what: str, done: int, total: int) -> None:
        if done == 2:
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path / "parts", progress=interrupt)
    whole = train(recipe, tmp_path / "whole")
    trained.run.file(SUPERNET).unlink()  # no longer needed
    parts = train(recipe, tmp_path / "parts", resume=True)
    assert parts.file(SUPERNET).read_bytes() == whole.file(SUPERNET).read_bytes()


def test_weights_of_another_space_are_an_error_and_create_no_run(recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has other choices than 'digits'"):
        train(recipe.replace({"space": "digits"}), tmp_path / "run")
    with pytest.raises(ValueError, match="nothing_here"):
        train(recipe.replace({"init": "nothing_here"}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_initial_teacher_must_have_the_same_outputs(recipe: Recipe, tmp_path: Path) -> None:
    taught = recipe.replace({"distillation.kind": "external", "distillation.teachers": ["init"]})
    with pytest.raises(ValueError, match=r"the teacher .* must have the .*outputs"):
        train(taught, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_initial_teacher_is_the_same_after_an_interruption(recipe: Recipe, tmp_path: Path) -> None:
    recipe = recipe.replace(
        {
            "distillation.kind": "external",
            "distillation.teachers": ["init"],
            "data.dataset": "digits",
        }
    )

    def interrupt(what: str, done: int, total: int) -> None:
        if done == 2:
            signal.raise_signal(signal.SIGTERM)

    whole = train(recipe, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path / "parts", progress=interrupt)
    parts = train(recipe, tmp_path / "parts", resume=True)
    assert parts.file(SUPERNET).read_bytes() == whole.file(SUPERNET).read_bytes()
