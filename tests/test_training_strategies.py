"""Every way to train a supernet trains, and resumes bit for bit."""

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
    **{name: [f"sampler={name}"] for name in SAMPLERS},
    "importance of images": ["sampler=path_importance", "data_sampling=importance"],
    "labels alone": ["distillation=none", "optimizer=adamw", "lr=0.004", "schedule=constant"],
    "alpha": ["distillation_loss=alpha", "clip_value=1.0", "schedule=cosine_from_start"],
    "noise": ["dropout=0.2", "drop_connect=0.2", "optimizer=rmsprop", "schedule=exponential"],
    "noise in all": ["dropout=0.2", "drop_connect=0.2", "regularize=all", "augment=autoaugment"],
    "mixtures": ["mixup_alpha=0.4", "cutmix_alpha=1.0", "clip_norm="],
    "average in phases": ["sampler=progressive", "ema_decay=0.9"],
}
FAST = ("sandwich", "importance of images", "average in phases")


def make(folder: Path, *changes: str) -> Recipe:
    (folder / "tiny.yaml").write_text(TINY_YAML)
    text = f"{{space: {folder / 'tiny.yaml'}, dataset: digits, epochs: 3, batch_size: 448, accelerator: cpu}}"
    return recipe.parse(text, ["n_random=1", *changes])


@pytest.mark.parametrize(
    "name", [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in STRATEGIES]
)
def test_every_strategy_trains_and_resumes_bit_for_bit(tmp_path: Path, name: str) -> None:
    chosen = make(tmp_path, *STRATEGIES[name])
    whole = train(chosen, tmp_path / "whole")

    def interrupt(what: str, done: int, total: int) -> None:
        if done == 3:  # in the middle of an epoch
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        train(chosen, tmp_path / "parts", progress=interrupt)
    parts = train(chosen, tmp_path / "parts", resume=True)
    for file in (SUPERNET, TRAINING_LOG):
        assert parts.file(file).read_bytes() == whole.file(file).read_bytes()
    assert whole.read_csv(TRAINING_LOG)["step"].tolist() == [2, 4, 6]
