"""All training strategies run, and resume bit for bit."""

import signal
from pathlib import Path

import pytest
from conftest import TINY_YAML

from nas.recipes import recipe
from nas.recipes.recipe import Recipe
from nas.runs.files import SUPERNET, TRAINING_LOG
from nas.samplers import SAMPLERS
from nas.training.train import train

STEPS = 6  # three epochs of 2 batches of 448 of the 897 training images
STRATEGIES = {
    **{name: [f"sampler.kind={name}"] for name in SAMPLERS if name != "one_subnet"},
    "importance of images": ["sampler.kind=path_importance", "data.order=importance"],
    "only labels": [
        "distillation.kind=none",
        "optimizer.kind=adamw",
        "optimizer.lr=0.004",
        "schedule.kind=constant",
    ],
    "alpha": ["distillation.loss=alpha", "clipping.kind=value", "schedule.kind=cosine_from_start"],
    "noise": [
        "regularization={dropout: 0.2, drop_connect: 0.2}",
        "optimizer.kind=rmsprop",
        "schedule.kind=exponential",
    ],
    "noise in all": [
        "regularization={dropout: 0.2, drop_connect: 0.2, apply_to: all}",
        "augmentation.kind=autoaugment",
    ],
    "mixtures": ["augmentation={mixup_alpha: 0.4, cutmix_alpha: 1.0}", "clipping.kind=none"],
    "average in phases": ["sampler.kind=progressive", "ema.decay=0.9"],
}
FAST = ("importance of images", "average in phases")
"""They have state in the sampler, the order of images and the average; `test_train.py` trains sandwiches."""


def make(folder: Path, *changes: str) -> Recipe:
    (folder / "tiny.yaml").write_text(TINY_YAML)
    text = f"""
    space: {folder / "tiny.yaml"}
    epochs: 3
    data: {{dataset: digits, batch_size: 448}}
    sampler: {{n_random: 1}}
    compute: {{accelerator: cpu}}
    """
    return recipe.parse(text, changes)


@pytest.mark.parametrize(
    "name", [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in STRATEGIES]
)
def test_every_strategy_trains_and_resumes_bit_for_bit(tmp_path: Path, name: str) -> None:
    recipe = make(tmp_path, *STRATEGIES[name])
    uninterrupted = train(recipe, tmp_path / "uninterrupted")

    def interrupt(what: str, done: int, total: int) -> None:
        if done == 3:  # in the middle of an epoch
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path / "resumed", progress=interrupt)
    resumed = train(recipe, tmp_path / "resumed", resume=True)
    for file in (SUPERNET, TRAINING_LOG):
        assert resumed.file(file).read_bytes() == uninterrupted.file(file).read_bytes()
    assert uninterrupted.read_csv(TRAINING_LOG)["step"].tolist() == [2, 4, 6]
