"""Test accuracy of subnets with inherited weights against the same subnets trained alone for as many epochs.

    python benchmarks/inherited_vs_scratch.py RUN --json

RUN is a trained run; its recipe trains each subnet from scratch. Both sides recalibrate their batch norms on
the same images. This reads the test split: use the figure to judge a recipe once, never to tune one.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch

from nas.recipes import recipe as recipes
from nas.run_dir import RECIPE
from nas.trained_run import TrainedRun
from nas.training.finetune import OneSubnet
from nas.training.train import train
from search_spaces import Arch


def from_scratch(run: Path, arch: Arch, seed: int) -> float:
    """Test top-1 of `arch`, trained alone by the run's recipe."""
    torch.set_num_threads(1)
    recipe = recipes.load(run / RECIPE, [f"seed={seed}"]).model_copy(update={"arch": arch})
    with tempfile.TemporaryDirectory() as folder:
        train(recipe, Path(folder) / "alone", sampler=OneSubnet(arch))
        return test_top1(Path(folder) / "alone", [arch])[0]


def test_top1(run: Path, archs: Sequence[Arch]) -> list[float]:
    """Test top-1 of subnets with the weights of a run."""
    results = TrainedRun.open(run).evaluator(split="test")(archs, "benchmark")
    return [metrics["top1"] for metrics in results]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("--subnets", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0, help="draws the subnets and trains them")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    space = TrainedRun.open(options.run).space
    archs = space.decode(space.sample(np.random.default_rng(options.seed), options.subnets))
    inherited = test_top1(options.run, archs)
    n = len(archs)
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        scratch = list(pool.map(from_scratch, [options.run] * n, archs, [options.seed] * n))
    gaps = 100 * (np.array(inherited) - scratch)
    result = {
        "inherited_percent": round(100 * float(np.mean(inherited)), 2),
        "scratch_percent": round(100 * float(np.mean(scratch)), 2),
        "gap_points": round(float(gaps.mean()), 2),
        "gap_standard_error": round(float(gaps.std(ddof=1) / np.sqrt(len(gaps))), 2),
    }
    print(json.dumps(result) if options.json else f"inherited minus from scratch: {result}")


if __name__ == "__main__":
    main()
