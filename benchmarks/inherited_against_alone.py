"""Subnets with inherited weights against the same subnets trained alone, for several supernets of a recipe.

    python -m benchmarks.inherited_against_alone --config fashion-mnist --data-root DIR --out study \
        --strategies "sandwich, labels" uniform path_importance attentive_best
    python -m benchmarks.inherited_against_alone --config fashion-mnist --data-root DIR --out study --run RUN

The supernets are trained as in `benchmarks.training_strategies`, all with equal numbers of forward-backward
passes; `--run` adds a supernet that is already trained. Subnets that are spread over all sizes are trained
alone with two seeds. The gap is the difference in accuracy on the test split. Kendall's tau compares the
cross-entropies on the validation split with those of the subnets trained alone, averaged over their seeds;
its ceiling is Kendall's tau between the two seeds. After an interruption, the same command continues.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

import search_spaces
from benchmarks.training_strategies import (
    LABELS,
    STRATEGIES,
    choose_subnets,
    once,
    trained,
)
from benchmarks.training_together import Member, in_groups, measure, train_together
from hw_profiles.atomic_write import replace_file
from nas.data.catalog import get as get_dataset
from nas.evaluation.trained_run import TrainedRun
from nas.progress import Progress, shown, silent
from nas.recipes import recipe as recipes
from nas.recipes.recipe import Recipe
from nas.torch_backend.precision import CPU
from nas.torch_backend.supernet import Supernet
from predictors import agreement
from predictors.correlation import tau
from search_spaces import Arch

SEEDS = (0, 1)
"""Seeds of the trainings alone."""
RESAMPLES = 1000


def measured(run: Path, archs: Sequence[Arch]) -> dict[str, list[float]]:
    """Cross-entropies on the validation split and accuracies on the test split of subnets of a run."""
    torch.set_num_threads(1)
    opened = TrainedRun.open(run)
    validation = opened.evaluator()(archs, "study")
    test = opened.evaluator(split="test")(archs, "study")
    return {
        "loss": [metrics["cross_entropy"] for metrics in validation],
        "accuracy": [metrics["top1"] for metrics in test],
    }


def alone(
    out: Path, recipe: Recipe, archs: Sequence[Arch], device: torch.device, progress: Progress
) -> list[dict[str, float]]:
    """Figures of the subnets trained alone on labels, for all seeds; a GPU trains several at once."""
    jobs = {out / "alone" / f"{arch.id}-{seed}.json": (seed, arch) for seed in SEEDS for arch in archs}
    dataset = get_dataset(recipe.data.dataset, recipe.data.root, recipe.data.split_seed)
    for files in in_groups([file for file in jobs if not file.exists()], device):
        members = [_untrained(recipe, *jobs[file]) for file in files]
        train_together(members, dataset, device, progress)
        for file, member in zip(files, members, strict=True):
            validation = measure(member, dataset, "validation", device, ["cross_entropy"])
            test = measure(member, dataset, "test", device, ["top1"])
            replace_file(file, json.dumps({"loss": validation["cross_entropy"], "accuracy": test["top1"]}))
    return [json.loads(file.read_text(encoding="utf-8")) for file in jobs]


def _untrained(recipe: Recipe, seed: int, arch: Arch) -> Member:
    space = search_spaces.get(recipe.space)
    torch.manual_seed(seed)
    net = Supernet(space).extract(arch)
    return Member(net, recipe.replace({"seed": seed, **LABELS}), space.image_size(arch))


def inherited(out: Path, recipe: Recipe, archs: Sequence[Arch], strategy: str) -> dict[str, Any]:
    """Figures of the subnets with the weights of the supernet of a strategy."""

    def work() -> dict[str, Any]:
        return measured(trained(out / "runs", recipe, strategy, recipe.seed).path, archs)

    return once(out / "inherited" / f"{strategy}.json", work)


def study(
    out: Path,
    recipe: Recipe,
    n: int,
    strategies: Sequence[str] = (),
    runs: Sequence[Path] = (),
    device: torch.device = CPU,
    progress: Progress = silent,
) -> list[dict[str, Any]]:
    """A row of figures for each strategy and each run.

    Args:
        out: folder of runs and results.
        recipe: the recipe.
        n: number of subnets.
        strategies: names of `benchmarks.training_strategies.STRATEGIES`.
        runs: trained runs of the same space and data.
        device: where subnets are trained alone.
        progress: called after each training.
    """
    archs = choose_subnets(search_spaces.get(recipe.space), 0, 2 * n).spread
    singles = alone(out, recipe, archs, device, progress)
    supernets: dict[str, Mapping[str, Any]] = {str(run): measured(run, archs) for run in runs}
    for done, name in enumerate(strategies, start=1):
        supernets[name] = inherited(out, recipe, archs, name)
        progress("train supernets", done, len(strategies))
    losses, accuracies = (
        np.array([single[name] for single in singles]).reshape(len(SEEDS), len(archs))
        for name in ("loss", "accuracy")
    )
    return [_row(name, figures, losses, accuracies) for name, figures in supernets.items()]


def _row(name: str, supernet: Mapping[str, Any], losses: Any, accuracies: Any) -> dict[str, Any]:
    gap = 100 * (np.array(supernet["accuracy"]) - accuracies.mean(axis=0))
    order = agreement(np.array(supernet["loss"]), losses.mean(axis=0), np.random.default_rng(0), RESAMPLES)
    return {
        "supernet": name,
        "inherited_percent": 100 * float(np.mean(supernet["accuracy"])),
        "alone_percent": 100 * float(accuracies.mean()),
        "gap_points": float(gap.mean()),
        "gap_standard_error": float(gap.std(ddof=1) / np.sqrt(len(gap))),
        "kendall_tau": order.tau,
        "kendall_tau_low": order.low,
        "kendall_tau_high": order.high,
        "ceiling": tau(*losses),
    }


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as Markdown."""
    lines = [
        "| supernet | inherited | trained alone | gap | Kendall τ | ceiling |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        gap = f"{row['gap_points']:+.2f} ± {row['gap_standard_error']:.2f} points"
        accuracy = f"{row['inherited_percent']:.2f} % | {row['alone_percent']:.2f} %"
        order = "{kendall_tau:.2f} [{kendall_tau_low:.2f}, {kendall_tau_high:.2f}] | {ceiling:.2f}".format(
            **row
        )
        lines.append(f"| {row['supernet']} | {accuracy} | {gap} | {order} |")
    return "\n".join(lines)


def main() -> None:
    """Run the study and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of runs and results")
    parser.add_argument("--config", default="fashion-mnist", help="recipe")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="changes to it")
    parser.add_argument("--data-root", type=Path, help="folder of the images")
    parser.add_argument("--subnets", type=int, default=10)
    parser.add_argument("--strategies", nargs="+", choices=STRATEGIES, default=[])
    parser.add_argument("--run", type=Path, action="append", default=[], help="a trained supernet")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="of the trainings alone")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    recipe = recipes.load(options.config, options.set)
    if options.data_root:
        recipe = recipe.replace({"data.root": str(options.data_root)})
    with shown() as progress:
        device = torch.device(options.device)
        rows = study(options.out, recipe, options.subnets, options.strategies, options.run, device, progress)
    print(json.dumps(rows) if options.json else table(rows))


if __name__ == "__main__":
    main()
