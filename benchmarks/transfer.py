"""A supernet trained on the digits 0 to 4 and moved to 5 to 9, beside training from scratch.

    python -m benchmarks.transfer --out runs/transfer --json

Both train the recipe `digits` on the digits 5 to 9; the moved one begins with the weights of a run on the
others and has a fifth of the epochs. Accuracies are of 10 random subnets, the largest and the smallest on the
validation images, in percent. Stopped, the same command goes on.
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
"""Training from scratch has this many times the epochs."""
FEW = "finetuning.head_lr=1.5"
"""For both trainings of few steps: those of a new classifier want to be long ones."""
RANDOM_SUBNETS = 10


def low(root: Path | None, split_seed: int) -> ImageDataset:
    """The digits 0 to 4."""
    return _part(digits.load(root, split_seed), 0, 5)


def high(root: Path | None, split_seed: int) -> ImageDataset:
    """The digits 5 to 9."""
    return _part(digits.load(root, split_seed), 5, 10)


def _part(data: ImageDataset, first: int, last: int) -> ImageDataset:
    def part(split: Split) -> Split:
        chosen = np.flatnonzero((split.targets >= first) & (split.targets < last))
        assert isinstance(split.images, np.ndarray)
        return Split(split.images[chosen], split.targets[chosen] - first)

    splits = {name: part(split) for name, split in data.splits.items()}
    return replace(data, output_names=data.output_names[first:last], splits=splits)


def main() -> None:
    """Train what is not trained yet, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/transfer"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=60, help="Of training from scratch.")
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
    few = max(1, epochs // SHARE)
    source = _train(out / "source", "low", epochs, seed, progress)
    runs = {
        "moved": _train(out / "moved", "high", few, seed, progress, f"init={source}", FEW),
        "scratch, as many steps": _train(out / "scratch_few", "high", few, seed, progress, FEW),
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
