"""Tunes and trains published networks alone; the result of each training is a file."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn

from benchmarks.alone_training import accuracy, train_alone
from benchmarks.off_the_shelf_models import FAMILIES
from benchmarks.training_strategies import once
from hw_profiles.atomic_write import replace_file
from nas.data.catalog import get as get_dataset
from nas.progress import Progress, silent
from nas.recipes.recipe import Recipe
from nas.torch_backend.allocator import keep_freed_memory

SIZE = 28
"""Side of the images, in pixels."""
LEARNING_RATES = (0.1, 0.2, 0.4)
WEIGHT_DECAYS = (1e-4, 5e-4)
TUNING_EPOCHS = 2
MODELS, BASELINES_CSV = "models", "baselines.csv"


@dataclass(frozen=True)
class Baselines:
    """The networks to train, and how."""

    recipe: Recipe
    widths: Mapping[str, Sequence[float]]
    """Width multipliers by name of the family."""
    learning_rates: Sequence[float] = LEARNING_RATES
    weight_decays: Sequence[float] = WEIGHT_DECAYS
    tuning_epochs: int = TUNING_EPOCHS

    @property
    def settings(self) -> list[dict[str, float]]:
        """The changes to the recipe that are tried."""
        pairs = product(self.learning_rates, self.weight_decays)
        return [{"optimizer.lr": lr, "optimizer.weight_decay": decay} for lr, decay in pairs]


def train_baselines(study: Baselines, out: Path, progress: Progress = silent) -> pd.DataFrame:
    """Tune and train all networks that are not trained yet; the result is that of `baselines`."""
    for family, widths in study.widths.items():
        trials = [_trial(study, out, family, setting, progress) for setting in study.settings]
        best = max(trials, key=lambda trial: trial["validation_accuracy"])
        share = sum(trial["seconds"] for trial in trials) / len(widths)
        for width in widths:
            _train(study, out, family, width, best["setting"], share, progress)
            replace_file(out / BASELINES_CSV, baselines(out).to_csv(index=False))
    return baselines(out)


def baselines(out: Path) -> pd.DataFrame:
    """A row for each trained network.

    Raises:
        ValueError: there is none.
    """
    files = sorted((out / MODELS).glob("*.json"))
    if not files:
        raise ValueError(f"{out} has no trained networks; run the part baselines first")
    return pd.DataFrame([json.loads(file.read_text(encoding="utf-8")) for file in files])


def _trial(
    study: Baselines, out: Path, family: str, setting: Mapping[str, float], progress: Progress
) -> dict[str, Any]:
    """Validation accuracy of a short training of the family's middle width."""

    def work() -> dict[str, Any]:
        recipe = study.recipe.replace({"epochs": study.tuning_epochs, **setting})
        _, result = _trained(recipe, family, FAMILIES[family].tuning_width, progress)
        return {"setting": setting, **result}

    name = "-".join(f"{value:g}" for value in setting.values())
    return once(out / "tuning" / f"{family}-{name}.json", work)


def _train(
    study: Baselines,
    out: Path,
    family: str,
    width: float,
    setting: Mapping[str, float],
    tuning_seconds: float,
    progress: Progress,
) -> None:
    """Train a network, and write its ONNX file and its row."""
    name = f"{family}-{width:g}"
    file = out / MODELS / f"{name}.onnx"

    def work() -> dict[str, Any]:
        recipe = study.recipe.replace(setting)
        net, result = _trained(recipe, family, width, progress)
        dataset = get_dataset(recipe.data.dataset, recipe.data.root, recipe.data.split_seed)
        test = accuracy(net, recipe, dataset, "test", SIZE)
        _write_onnx(net, file)
        return {
            "model": name,
            "family": family,
            "width": width,
            "lr": setting["optimizer.lr"],
            "weight_decay": setting["optimizer.weight_decay"],
            "params": sum(weight.numel() for weight in net.parameters()),
            **result,
            "tuning_seconds": tuning_seconds,
            "accuracy": test,
            "file": str(file),
        }

    once(out / MODELS / f"{name}.json", work)


def _trained(
    recipe: Recipe, family: str, width: float, progress: Progress
) -> tuple[nn.Module, dict[str, Any]]:
    """A trained network, with the time of the training and the accuracy on the validation split."""
    keep_freed_memory()
    torch.set_num_threads(recipe.compute.threads or 1)
    torch.manual_seed(recipe.seed)
    dataset = get_dataset(recipe.data.dataset, recipe.data.root, recipe.data.split_seed)
    net = FAMILIES[family].make(width, len(dataset.output_names))
    try:
        seconds = train_alone(
            net,
            recipe,
            dataset,
            SIZE,
            name=f"{family}-{width:g}, lr {recipe.optimizer.lr:g}",
            progress=progress,
        )
    except FloatingPointError:  # the learning rate is too large for this network
        return net, {"seconds": 0.0, "validation_accuracy": 0.0}
    found = accuracy(net, recipe, dataset, "validation", SIZE)
    return net, {"seconds": seconds, "validation_accuracy": found}


def _write_onnx(net: nn.Module, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    image = torch.zeros(1, 1, SIZE, SIZE)
    net.eval().to(memory_format=torch.contiguous_format)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(net, (image,), file, dynamo=True, external_data=False, verbose=False)
