"""The recipes of published supernets take steps on images in ImageNet's layout."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

import search_spaces
from nas.recipes import recipe
from nas.recipes.groups import ValueClippingConfig
from nas.recipes.keys import differences
from nas.runs.files import SUPERNET
from nas.training.train import train

SIZE = 32
BATCH_SIZE = 8
SMALL = [
    f"data.batch_size={BATCH_SIZE}",
    "data.workers=0",
    "compute={accelerator: cpu, threads: 1}",
]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes, 10 training images each."""
    root, rng = tmp_path_factory.mktemp("imagenet"), np.random.default_rng(0)
    for part, n in (("train", 10), ("val", 2)):
        for name in ("cat", "dog"):
            folder = root / part / name
            folder.mkdir(parents=True)
            for i in range(n):
                Image.fromarray(rng.integers(0, 256, (40, 36, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    return root


def settings(name: str, images: Path, folder: Path) -> list[str]:
    """What `--set` says, so that a few steps at 32 pixels are enough."""
    original = recipe.load(name)
    config = search_spaces.get(original.space).config.model_dump(mode="json")
    config["resolutions"] = [SIZE] if config.get("input_size") is None else [24, SIZE]
    if config.get("input_size"):
        config["input_size"] = SIZE
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump(config))
    lr = original.optimizer.lr * BATCH_SIZE / original.data.batch_size  # linear scaling (Goyal et al. 2017)
    warmup = [] if original.phases else ["schedule.warmup_epochs=0"]
    return [*SMALL, *warmup, f"space={file}", f"data.root={images}", f"optimizer.lr={lr}"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bignas", "attentivenas", "alphanet", "nasvit"])
def test_recipe_takes_steps(images: Path, tmp_path: Path, name: str) -> None:
    changes = [*settings(name, images, tmp_path), "epochs=1"]
    assert train(recipe.load(name, changes), tmp_path / "run").has(SUPERNET)


@pytest.mark.slow
def test_ofa_shrinks_what_its_first_step_trained(images: Path, tmp_path: Path) -> None:
    changes = settings("ofa", images, tmp_path)
    first = train(
        recipe.load("ofa-largest", [*changes, "epochs=1", "schedule.warmup_epochs=0"]), tmp_path / "largest"
    )
    shrinking = recipe.load("ofa", [*changes, "epochs=5", f"init={first.path}"])
    assert train(shrinking, tmp_path / "ofa").has(SUPERNET)
    with pytest.raises(ValueError, match="the teacher 'init' needs the key init"):
        train(recipe.load("ofa", changes), tmp_path / "without")
    assert not (tmp_path / "without").exists()


def test_published_figures_are_those_of_the_authors_code() -> None:
    attentive, alpha = recipe.load("attentivenas"), recipe.load("alphanet")
    assert (attentive.optimizer.lr, attentive.data.batch_size, attentive.epochs) == (0.8, 2048, 360)
    assert attentive.clipping == ValueClippingConfig(max_value=1.0)
    assert differences(attentive, alpha) == ["sampler.kind", "distillation.loss"]
    ofa = recipe.load("ofa")
    # base rates of 3e-2, 2.5e-3 and 7.5e-3, times 32 GPUs
    rates = [ofa.optimizer.lr * phase.lr_scale for phase in ofa.phases]
    assert rates == pytest.approx([0.96, 0.08, 0.24, 0.08, 0.24], rel=1e-4)
    assert sum(phase.epochs for phase in ofa.phases) == ofa.epochs == 425
    assert [phase.subnets for phase in ofa.phases] == [1, 2, 2, 4, 4]
