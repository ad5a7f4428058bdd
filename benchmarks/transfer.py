"""Transfer of a supernet from the digits 0 to 4 to the digits 5 to 9, compared with training from scratch.

    python -m benchmarks.transfer --out runs/transfer --json

Both use the recipe `digits` on the digits 5 to 9. The transferred supernet starts with the weights of a run
on the other digits and is trained for a fifth of the epochs. Accuracies are those of 10 random subnets, the
largest and the smallest one on the validation images, in percent. After an interruption, the same command
continues.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from nas.data import digits
from nas.data.dataset import ImageDataset, Split
from nas.evaluation.trained_run import TrainedRun
from nas.progress import Progress, shown
from nas.recipes import recipe
from nas.training.train import train

HERE = "benchmarks.transfer"
SHARE = 5
"""Ratio of the epochs of training from scratch and of transfer."""
SHORT = "finetuning.head_lr=1.5"
"""Change of the recipe for both short trainings, because a new classifier needs a larger learning rate."""
RANDOM_SUBNETS = 10


def low(root: Path | None, split_seed: int) -> ImageDataset:
    """The digits 0 to 4."""
    return _part(digits.load(root, split_seed), 0, 5)


def high(root: Path | None, split_seed: int) -> ImageDataset:
    """The digits 5 to 9."""
    return _part(digits.load(root, split_seed), 5, 10)


def _part(data: ImageDataset, first: int, last: int) -> ImageDataset:
    def part(split: Split) -> Split:
        rows = np.flatnonzero((split.targets >= first) & (split.targets < last))
        assert isinstance(split.images, np.ndarray)
        return Split(split.images[rows], split.targets[rows] - first)

    splits = {name: part(split) for name, split in data.splits.items()}
    return replace(data, output_names=data.output_names[first:last], splits=splits)


def main() -> None:
    """Run the trainings that do not exist yet, and print the accuracies."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/transfer"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=60, help="epochs of training from scratch")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with shown() as progress:
        rows = [
            row | {"seed": seed}
            for seed in range(options.seeds)
            for row in compare(options.out / str(seed), options.epochs, seed, progress)
        ]
    table = pd.DataFrame(rows).groupby("training", sort=False).agg(["mean", "min", "max"])
    means = table.drop(columns="seed").round(2)
    if options.json:
        print(json.dumps({"rows": rows}))
    else:
        print(means.to_string())


def compare(out: Path, epochs: int, seed: int, progress: Progress) -> list[dict[str, float | str]]:
    """Accuracies after each way of training, with one seed."""
    short = max(1, epochs // SHARE)
    source = _train(out / "source", "low", epochs, seed, progress)
    runs = {
        "moved": _train(out / "moved", "high", short, seed, progress, f"init={source}", SHORT),
        "scratch, as many steps": _train(out / "scratch_few", "high", short, seed, progress, SHORT),
        f"scratch, {SHARE} times the steps": _train(out / "scratch", "high", epochs, seed, progress),
    }
    return [{"training": name} | accuracies(path, seed, progress) for name, path in runs.items()]


def _train(path: Path, data: str, epochs: int, seed: int, progress: Progress, *more: str) -> Path:
    changes = [f"data.dataset={HERE}:{data}", f"epochs={epochs}", f"seed={seed}", *more]
    return train(recipe.load("digits", changes), path, resume=True, progress=progress).path


def accuracies(path: Path, seed: int, progress: Progress) -> dict[str, float]:
    """Top-1 on the validation images, in percent."""
    trained = TrainedRun.open(path, dataset=f"{HERE}:high")
    space = trained.space
    random = space.decode(space.sample(np.random.default_rng(seed), RANDOM_SUBNETS))
    results = trained.evaluator()([*random, *trained.notable_archs], "benchmark", progress=progress)
    top1 = [100 * result["top1"] for result in results]
    return {"random": float(np.mean(top1[:-2])), "largest": top1[-2], "smallest": top1[-1]}


if __name__ == "__main__":
    main()
