"""Tunes and trains published networks alone; the result of each training is a file."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn

import search_spaces
from benchmarks.off_the_shelf_models import FAMILIES
from benchmarks.training_cost import ROUNDS, median_seconds, supernet_step
from benchmarks.training_together import (
    EpochImages,
    Member,
    in_groups,
    measure,
    train_together,
    training_step,
)
from hw_profiles.atomic_write import replace_file
from hw_profiles.measuring.runner.process_limits import usable_cores
from nas.data.batches import batches_per_epoch
from nas.data.catalog import get as get_dataset
from nas.data.dataset import Dataset, SplitName
from nas.data.normalization import Normalization
from nas.progress import Progress, silent
from nas.recipes.recipe import Recipe
from nas.recipes.recipe import parse as parse_recipe
from nas.runs.files import RECIPE
from nas.torch_backend.allocator import keep_freed_memory
from nas.torch_backend.precision import CPU
from nas.training.loaders import TrainingBatch

SIZE = 28
"""Side of the images, in pixels."""
LEARNING_RATES = (0.1, 0.2, 0.4)
WEIGHT_DECAYS = (1e-4, 5e-4)
TUNING_EPOCHS = 2
MODELS, TUNING, BASELINES_CSV = "models", "tuning", "baselines.csv"
SUPERNET = "supernet"


@dataclass(frozen=True)
class Job:
    """A network to train; its result is a file."""

    family: str
    width: float
    recipe: Recipe
    setting: Mapping[str, float]
    """The changes to the recipe of the study; `recipe` already includes them."""
    path: Path
    """File of the result."""
    onnx: Path | None = None
    """File of the network; None: the network is neither kept nor evaluated on the test split."""

    @property
    def name(self) -> str:
        """Family and width."""
        return f"{self.family}-{self.width:g}"

    def member(self, classes: int) -> Member:
        """The network with initial weights."""
        torch.manual_seed(self.recipe.seed)
        return Member(FAMILIES[self.family].make(self.width, classes), self.recipe, SIZE)

    def write(self, member: Member, dataset: Dataset, device: torch.device, finite: bool) -> None:
        """Evaluate the trained network, and write the result; a training that diverged has accuracy 0."""

        def accuracy(split: SplitName) -> float:
            return measure(member, dataset, split, device, ["top1"])["top1"] if finite else 0.0

        result: dict[str, Any] = {
            "model": self.name,
            "family": self.family,
            "width": self.width,
            "epochs": self.recipe.epochs,
            "setting": dict(self.setting),
            "params": sum(weight.numel() for weight in member.net.parameters()),
            "validation_accuracy": accuracy("validation"),
        }
        if self.onnx:
            result |= {"accuracy": accuracy("test"), "file": str(self.onnx)}
            write_onnx(member.net, self.onnx)
        replace_file(self.path, json.dumps(result))


@dataclass(frozen=True)
class Baselines:
    """The networks to train, and the settings of their training."""

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

    def trials(self, family: str, out: Path) -> list[Job]:
        """Short trainings of the family's middle width, one for each setting."""
        short, width = self.recipe.replace({"epochs": self.tuning_epochs}), FAMILIES[family].tuning_width
        jobs = []
        for setting in self.settings:
            name = "-".join(f"{value:g}" for value in setting.values())
            path = out / TUNING / f"{family}-{name}.json"
            jobs.append(Job(family, width, short.replace(setting), setting, path))
        return jobs

    def training(self, family: str, width: float, setting: Mapping[str, float], out: Path) -> Job:
        """The training of a network with the chosen setting."""
        path = out / MODELS / f"{family}-{width:g}.json"
        recipe = self.recipe.replace(setting)
        return Job(family, width, recipe, setting, path, path.with_suffix(".onnx"))


def train_baselines(
    study: Baselines, out: Path, device: torch.device = CPU, progress: Progress = silent
) -> pd.DataFrame:
    """Tune and train all networks that are not trained yet; returns the table of `baselines`."""
    replace_file(out / RECIPE, study.recipe.to_yaml())
    trials = [trial for family in study.widths for trial in study.trials(family, out)]
    _train_missing(trials, device, progress)
    jobs = []
    for family, widths in study.widths.items():
        files = [trial.path for trial in study.trials(family, out)]
        results = [json.loads(file.read_text(encoding="utf-8")) for file in files]
        best = max(results, key=lambda result: result["validation_accuracy"])
        jobs += [study.training(family, width, best["setting"], out) for width in widths]
    _train_missing(jobs, device, progress)
    table = baselines(out)
    replace_file(out / BASELINES_CSV, table.to_csv(index=False))
    return table


def baselines(out: Path) -> pd.DataFrame:
    """A row for each trained network.

    Raises:
        ValueError: no network is trained yet.
    """
    table = _results(out / MODELS)
    if table.empty:
        raise ValueError(f"{out} has no trained networks; run the part baselines first")
    return table


def _train_missing(jobs: Sequence[Job], device: torch.device, progress: Progress) -> None:
    """Train the networks without a result: in groups on a GPU, one after the other on the CPU."""
    for group in in_groups([job for job in jobs if not job.path.exists()], device):
        recipe = group[0].recipe
        keep_freed_memory()
        torch.set_num_threads(recipe.compute.threads or usable_cores())
        dataset = get_dataset(recipe.data.dataset, recipe.data.root, recipe.data.split_seed)
        members = [job.member(len(dataset.output_names)) for job in group]
        finite = train_together(members, dataset, device, progress)
        for job, member, is_finite in zip(group, members, finite, strict=True):
            job.write(member, dataset, device, is_finite)


def training_hours(out: Path) -> dict[str, float]:
    """Hours of the trainings on the CPU, computed from the times of their steps, which are measured in turns.

    Args:
        out: folder of trained networks.

    Returns:
        The hours for a supernet with the recipe, for all networks, and for their tuning.
    """
    recipe = parse_recipe((out / RECIPE).read_text(encoding="utf-8"))
    keep_freed_memory()
    torch.set_num_threads(recipe.compute.threads or usable_cores())
    dataset = get_dataset(recipe.data.dataset, recipe.data.root, recipe.data.split_seed)
    batch, steps_per_epoch = recipe.data.batch_size, batches_per_epoch(dataset, recipe.data.batch_size)
    classes = len(dataset.output_names)
    shape = (1, batch, dataset.preprocess.channels, SIZE, SIZE)
    images = EpochImages(torch.randint(256, shape, dtype=torch.uint8), torch.randint(classes, (1, batch)))
    normalized = Normalization(dataset.preprocess, CPU)(images.pixels[0])
    supernet = supernet_step(recipe, search_spaces.get(recipe.space), recipe.epochs * steps_per_epoch)
    steps: dict[str, Callable[[], object]] = {
        SUPERNET: lambda: supernet(TrainingBatch(normalized, images.targets[0], None, batch), 0.01)
    }
    models, trials = baselines(out), _results(out / TUNING)
    enough = recipe.replace({"epochs": ROUNDS + 1})  # of one batch each
    kinds = pd.concat([models, trials]).drop_duplicates("model")
    for model, family, width in zip(kinds["model"], kinds["family"], kinds["width"], strict=True):
        member = Member(FAMILIES[family].make(width, classes), enough, SIZE)
        steps[model] = training_step(member, images, dataset, CPU)
    epoch_hours = {name: steps_per_epoch * s / 3600 for name, s in median_seconds(steps).items()}

    def hours(trainings: pd.DataFrame) -> float:
        return float((trainings["model"].map(epoch_hours) * trainings["epochs"]).sum())

    return {
        "supernet_hours": recipe.epochs * epoch_hours[SUPERNET],
        "models_hours": hours(models),
        "models_tuning_hours": hours(trials),
    }


def _results(folder: Path) -> pd.DataFrame:
    files = sorted(folder.glob("*.json"))
    return pd.DataFrame([json.loads(file.read_text(encoding="utf-8")) for file in files])


def write_onnx(net: nn.Module, file: Path) -> None:
    """Write a network for images of one channel and `SIZE` pixels as an ONNX file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    image = torch.zeros(1, 1, SIZE, SIZE)
    net.eval().to(device=CPU).to(memory_format=torch.contiguous_format)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(net, (image,), file, dynamo=True, external_data=False, verbose=False)
