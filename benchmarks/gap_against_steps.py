"""Accuracy gap between subnets with inherited weights and the same subnets trained from scratch, by steps.

    python -m benchmarks.gap_against_steps --out gap --jobs 2
    python -m benchmarks.gap_against_steps --out gap --config RECIPE.yaml --epochs 90

For each number of epochs and each seed, a supernet and random single subnets are trained. After an
interruption, the same command continues. The batch norms of both are recalibrated on the same images. The
figures are on the test split: use them to evaluate a recipe, never to tune it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch

import search_spaces
from benchmarks.training_strategies import once, train_from_scratch, workers
from nas.evaluation.trained_run import TrainedRun
from nas.recipes import recipe as recipes
from nas.recipes.recipe import Recipe
from nas.runs.files import TRAINING_LOG
from nas.training.train import train
from search_spaces import Arch


def subnets(recipe: Recipe, n: int, seed: int) -> list[Arch]:
    """Random subnets of the recipe's space."""
    space = search_spaces.get(recipe.space)
    return space.decode(space.sample(np.random.default_rng(seed), n))


def inherited(out: Path, recipe: Recipe, n: int, epochs: int, seed: int) -> dict[str, Any]:
    """Number of training steps of a supernet, and test top-1 of its subnets."""

    def work() -> dict[str, Any]:
        torch.set_num_threads(1)
        changed = recipe.replace({"epochs": epochs, "seed": seed})
        run = train(changed, out / "runs" / f"supernet-{epochs}-{seed}", resume=True)
        steps = int(run.read_csv(TRAINING_LOG)["step"].max())
        return {"steps": steps, "top1": test_top1(run.path, subnets(recipe, n, seed))}

    return once(out / "inherited" / f"{epochs}-{seed}.json", work)


def from_scratch(out: Path, recipe: Recipe, n: int, epochs: int, seed: int, i: int) -> dict[str, Any]:
    """Test top-1 of the subnet `i`, trained from scratch."""

    def work() -> dict[str, Any]:
        torch.set_num_threads(1)
        arch = subnets(recipe, n, seed)[i]
        changed = recipe.replace({"epochs": epochs, "seed": seed})
        run = train_from_scratch(out / "runs" / f"alone-{epochs}-{seed}-{i}", changed, arch)
        return {"top1": test_top1(run.path, [arch])[0]}

    return once(out / "alone" / f"{epochs}-{seed}-{i}.json", work)


def test_top1(run: Path, archs: Sequence[Arch]) -> list[float]:
    """Test top-1 of subnets with the weights of a run."""
    results = TrainedRun.open(run).evaluator(split="test")(archs, "benchmark")
    return [metrics["top1"] for metrics in results]


def gaps(
    out: Path, recipe: Recipe, epochs: Sequence[int], seeds: Sequence[int], n: int, jobs: int = 1
) -> list[dict[str, float]]:
    """A row for each number of epochs; runs that do not exist yet are trained."""
    settings = list(product(epochs, seeds))
    singles = list(product(epochs, seeds, range(n)))
    with workers(jobs) as do:
        supernets = do(partial(inherited, out, recipe, n), *zip(*settings, strict=True))
        scratch = do(partial(from_scratch, out, recipe, n), *zip(*singles, strict=True))
        measured = list(supernets)
        ours = np.array([row["top1"] for row in measured]).reshape(len(epochs), len(seeds), n)
        theirs = np.array([row["top1"] for row in scratch]).reshape(ours.shape)
    steps = [row["steps"] for row in measured[:: len(seeds)]]
    return [_row(*figures) for figures in zip(epochs, steps, 100 * ours, 100 * theirs, strict=True)]


def _row(epochs: int, steps: int, ours: Any, theirs: Any) -> dict[str, float]:
    """A row of means over seeds and subnets.

    Args:
        epochs: number of epochs.
        steps: number of training steps.
        ours: top-1 of subnets with inherited weights in percent, shape (seeds, subnets).
        theirs: top-1 of the same subnets trained from scratch, in percent, shape (seeds, subnets).
    """
    gap = (ours - theirs).ravel()
    return {
        "epochs": epochs,
        "steps": steps,
        "inherited_percent": float(ours.mean()),
        "alone_percent": float(theirs.mean()),
        "gap_points": float(gap.mean()),
        "gap_standard_error": float(gap.std(ddof=1) / np.sqrt(gap.size)),
    }


def table(rows: Sequence[dict[str, float]]) -> str:
    """The rows as a Markdown table."""
    lines = ["| epochs | steps | inherited | trained alone | gap |", "|---|---|---|---|---|"]
    for row in rows:
        gap = f"{row['gap_points']:+.2f} ± {row['gap_standard_error']:.2f} points"
        accuracies = f"{row['inherited_percent']:.2f} % | {row['alone_percent']:.2f} %"
        lines.append(f"| {row['epochs']} | {row['steps']} | {accuracies} | {gap} |")
    return "\n".join(lines)


def main() -> None:
    """Run the benchmark and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of runs and results")
    parser.add_argument("--config", default="digits", help="recipe")
    parser.add_argument("--epochs", type=int, nargs="+", default=[25, 40, 50, 100])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--subnets", type=int, default=10, help="subnets per seed")
    parser.add_argument("--jobs", type=int, default=1, help="number of parallel trainings")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    recipe = recipes.load(options.config)
    rows = gaps(options.out, recipe, options.epochs, options.seeds, options.subnets, options.jobs)
    print(json.dumps(rows) if options.json else table(rows))


if __name__ == "__main__":
    main()
