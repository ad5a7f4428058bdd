"""Comparison of all training strategies with the same number of forward-backward passes on digits.

    python -m benchmarks.training_strategies --out study --write docs/training_strategies.md

After an interruption, the same command continues. All figures are on the validation split and may be used to
select a recipe. Kendall's tau is the rank correlation of the cross-entropies of subnets with inherited
weights and of the same subnets trained from scratch.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

import search_spaces
from benchmarks.strategy_table import summary, table
from hw_profiles.atomic_write import replace_file
from nas.evaluation.trained_run import TrainedRun
from nas.recipes import recipe as recipes
from nas.recipes.recipe import Recipe
from nas.recipes.samplers import OneSubnetConfig
from nas.runs.files import SPEED
from nas.runs.run_dir import RunDir
from nas.samplers.progressive import PHASES
from nas.training.train import train
from search_spaces import Arch, Space
from search_spaces.costs import macs_table

LABELS = {"distillation.kind": "none"}
INPLACE = {"distillation.kind": "inplace"}
OFA_LR = (1.0, 1 / 12, 1 / 4, 1 / 12, 1 / 4)
SHRINKING = [phase.model_copy(update={"lr_scale": lr}) for phase, lr in zip(PHASES[1:], OFA_LR, strict=True)]
TAUGHT = {"distillation": {"kind": "external", "teachers": ["init"], "label_weight": 1.0}}


@dataclass(frozen=True)
class Strategy:
    """A training strategy: changes to the recipe, and the cost of a step."""

    subnets: float
    """Mean number of forward-backward passes per step."""
    changes: Mapping[str, Any] = field(default_factory=dict)
    teacher_share: float = 0.0
    """Share of all passes that is used to train the largest subnet as a teacher first."""


STRATEGIES: Mapping[str, Strategy] = {
    "sandwich": Strategy(3, INPLACE),
    "sandwich, alpha": Strategy(3, {"distillation.loss": "alpha"} | INPLACE),
    "sandwich, labels": Strategy(3, LABELS),
    "uniform": Strategy(1, {"sampler.kind": "uniform"} | LABELS),
    "macs_uniform": Strategy(1, {"sampler.kind": "macs_uniform"} | LABELS),
    "progressive": Strategy(
        sum(phase.subnets * phase.epochs for phase in SHRINKING) / sum(phase.epochs for phase in SHRINKING),
        {"sampler": {"kind": "progressive", "phases": SHRINKING}} | TAUGHT,
        teacher_share=0.15,
    ),
    "attentive_best": Strategy(3, {"sampler.kind": "attentive_best"} | INPLACE),
    "attentive_worst": Strategy(3, {"sampler.kind": "attentive_worst"} | INPLACE),
    "complexity_banks": Strategy(3, {"sampler.kind": "complexity_banks"} | LABELS),
    "performance_banks": Strategy(3, {"sampler.kind": "performance_banks"} | LABELS),
    "complexity_adaptive": Strategy(3, {"sampler.kind": "complexity_adaptive"} | INPLACE),
    "path_importance": Strategy(1, {"sampler.kind": "path_importance", "data.order": "importance"} | LABELS),
    "preferred": Strategy(1, {"sampler.kind": "preferred"} | LABELS),
    "nested": Strategy(1, {"sampler.kind": "nested", "sampler.n_random": 0} | LABELS),
}
"""Sampler and targets of each published method; all other settings are those of the base recipe. Samplers
without the largest subnet in each step are trained on labels."""


@dataclass(frozen=True)
class Subnets:
    """The subnets of the study."""

    corners: Sequence[Arch]
    """Smallest, median in MACs, largest."""
    random: Sequence[Arch]
    spread: Sequence[Arch]
    """Subnets of all sizes."""
    alike: Sequence[Arch]
    """Subnets within 5 % of the MACs of the median, whose rank does not depend on their size."""


def choose_subnets(space: Space, n_random: int, n_ranked: int, seed: int = 0) -> Subnets:
    """Draw the subnets of the study.

    Args:
        space: the space.
        n_random: number of subnets for the mean loss.
        n_ranked: number of subnets for Kendall's tau; half of them have similar MACs.
        seed: seed of the draws.
    """
    rng = np.random.default_rng(seed)
    pool = space.sample(rng, 5_000)
    macs = macs_table(space)(pool)
    order = np.argsort(macs, kind="stable")
    median = macs[order[len(order) // 2]]
    n_spread = n_alike = n_ranked // 2
    sizes = np.linspace(macs.min(), macs.max(), n_spread)
    spread = np.abs(macs[:, None] - sizes).argmin(axis=0)
    alike = np.flatnonzero(np.abs(macs / median - 1) <= 0.05)[:n_alike]
    corners = [space.smallest, *space.decode(pool[order[[len(order) // 2]]]), space.largest]
    return Subnets(
        corners=corners,
        random=space.decode(space.sample(rng, n_random)),
        spread=space.decode(pool[spread]),
        alike=space.decode(pool[alike]),
    )


def once(path: Path, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Read a result from a file; if the file does not exist, call `work` and write its result first."""
    if not path.exists():
        replace_file(path, json.dumps(work()))
    result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return result


def from_scratch(out: Path, recipe: Recipe, seed: int, arch: Arch) -> dict[str, Any]:
    """Metrics of a subnet trained from scratch on labels."""

    def work() -> dict[str, Any]:
        torch.set_num_threads(1)
        changed = recipe.replace({"seed": seed, **LABELS})
        run = train_from_scratch(out / "runs" / f"alone-{arch.id}-{seed}", changed, arch)
        return TrainedRun.open(run.path).evaluator()([arch], "benchmark")[0]

    return once(out / "alone" / f"{arch.id}-{seed}.json", work)


def train_from_scratch(run: Path, recipe: Recipe, arch: Arch) -> RunDir:
    """Train one subnet from scratch with the recipe, or resume its training."""
    return train(recipe.replace({"sampler": OneSubnetConfig(arch=arch)}), run, resume=True)


def strategy(out: Path, recipe: Recipe, subnets: Subnets, name: str, seed: int) -> dict[str, Any]:
    """Metrics of the subnets of the study with the weights of a supernet trained with a strategy."""

    def work() -> dict[str, Any]:
        torch.set_num_threads(1)
        run = trained(out / "runs", recipe, name, seed)
        evaluate = TrainedRun.open(run.path).evaluator()
        measured: dict[str, Any] = {
            kind: evaluate(list(getattr(subnets, kind)), "benchmark")
            for kind in ("corners", "random", "spread", "alike")
        }
        images_per_s = run.read_csv(SPEED)["images_per_s"].median()
        return measured | {"ms_per_step": 1e3 * recipe.data.batch_size / images_per_s}

    return once(out / "strategies" / f"{name}-{seed}.json", work)


def trained(runs: Path, recipe: Recipe, name: str, seed: int) -> RunDir:
    """Train the supernet of a strategy, after its teacher if it has one."""
    training = STRATEGIES[name]
    passes = recipe.epochs * STRATEGIES["sandwich"].subnets
    recipe = recipe.replace({"sampler.n_random": 1, "seed": seed})
    changes = dict(training.changes)
    if training.teacher_share:
        teacher = runs / f"{name}-{seed}-teacher"
        epochs = max(1, round(passes * training.teacher_share))
        largest_only = {"sampler.kind": "largest", "epochs": epochs, **LABELS}
        train(recipe.replace(largest_only), teacher, resume=True)
        changes["init"] = str(teacher)
    changes["epochs"] = max(1, round(passes * (1 - training.teacher_share) / training.subnets))
    return train(recipe.replace(changes), runs / f"{name}-{seed}", resume=True)


def study(
    out: Path, recipe: Recipe, subnets: Subnets, names: Sequence[str], seeds: Sequence[int], jobs: int = 1
) -> dict[str, Any]:
    """Run all trainings that do not exist yet, and write the figures to `out`/results.json."""
    ranked = [*subnets.spread, *subnets.alike]
    runs = [(name, seed) for seed in seeds for name in names]
    singles = [(seed, arch) for seed in (0, 1) for arch in ranked]
    with workers(jobs) as do:
        inherited = do(partial(strategy, out, recipe, subnets), *zip(*runs, strict=True))
        scratch = do(partial(from_scratch, out, recipe), *zip(*singles, strict=True))
        by_strategy: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
        for (name, _), measured in zip(runs, inherited, strict=True):
            by_strategy[name].append(measured)
        losses = np.array([measured["cross_entropy"] for measured in scratch]).reshape(2, len(ranked))
    n_spread = len(subnets.spread)
    result = {
        "epochs": recipe.epochs,
        "seeds": list(seeds),
        "strategies": summary(
            by_strategy, {"spread": losses[:, :n_spread], "alike": losses[:, n_spread:]}, reference=names[0]
        ),
    }
    replace_file(out / "results.json", json.dumps(result, indent=1))
    return result


@contextmanager
def workers(jobs: int) -> Iterator[Callable[..., Iterable[dict[str, Any]]]]:
    """Context with a `map` function that uses `jobs` processes."""
    if jobs == 1:
        yield map
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        yield pool.map


def main() -> None:
    """Measure, print, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of runs and results")
    parser.add_argument("--config", default="digits", help="recipe of the first strategy")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="changes to it")
    parser.add_argument("--strategies", nargs="+", choices=STRATEGIES, default=list(STRATEGIES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--random", type=int, default=100, help="subnets of the mean loss")
    parser.add_argument(
        "--ranked", type=int, default=60, help="subnets of Kendall's tau, also trained from scratch"
    )
    parser.add_argument("--jobs", type=int, default=1, help="number of parallel trainings")
    parser.add_argument("--write", type=Path, help="Markdown file of the table")
    options = parser.parse_args()
    recipe = recipes.load(options.config, options.set)
    subnets = choose_subnets(search_spaces.get(recipe.space), options.random, options.ranked)
    result = study(options.out, recipe, subnets, options.strategies, options.seeds, options.jobs)
    if options.write:
        replace_file(options.write, table(result))
    print(table(result))


if __name__ == "__main__":
    main()
