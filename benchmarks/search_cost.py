"""The estimated and the actual time of the evaluations of a search.

    python -m benchmarks.search_cost --run RUN
    python -m benchmarks.search_cost --jpegs 300 --space ofa-mbv3-w1.0 --json

`--run` takes a run of any data set. Otherwise a supernet is trained for a few steps on JPEG files that are
made in a temporary folder; the time does not depend on the weights. The objectives of the search are the
primary metric and MACs. It uses the default algorithm and starts with an empty archive. Other programs that
start or end meanwhile change the ratio of the times, but hardly the ratio of the CPU times.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.image_loader import make_jpegs
from nas.evaluation.archive import Archive
from nas.evaluation.trained_run import TrainedRun
from nas.progress import shown
from nas.recipes import recipe
from nas.search.cost_estimate import estimate_cost
from nas.search.options import SearchOptions
from nas.search.problem.objectives import CostObjective, MetricObjective
from nas.search.problem.problem import Problem
from nas.search.search_loop import search
from nas.training.train import train
from search_spaces import Arch
from search_spaces.costs import macs_table

CLASSES = 4
TRAINED_ON = 0.6
"""Share of the files in the training split; validation and test have the rest."""


def main() -> None:
    """Estimate, search and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--run", type=Path, help="run directory; without it, JPEG files are made")
    parser.add_argument("--jpegs", type=int, default=300)
    parser.add_argument("--space", default="ofa-mbv3-w1.0")
    parser.add_argument("--evaluations", type=int, default=100)
    parser.add_argument("--validation-images", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = options.run or _train(Path(folder), options.space, options.jpegs)
        trained = TrainedRun.open(path).with_validation_images(options.validation_images)
        trained = replace(trained, archive=Archive(Path(folder) / "empty.sqlite"))
        result = measure(trained, options.evaluations, options.seed)
    print(json.dumps(result) if options.json else "\n".join(f"{k}: {v}" for k, v in result.items()))


def measure(trained: TrainedRun, evaluations: int, seed: int) -> dict[str, Any]:
    """Estimated and actual seconds, and their ratio."""
    space = trained.space
    problem = Problem(
        space,
        [
            MetricObjective(trained.task.primary_objective, trained.task.primary.metric),
            CostObjective("macs", macs_table(space)),
        ],
    )
    begin = time.perf_counter()
    estimate = estimate_cost(trained, problem, SearchOptions(budget=evaluations, seed=seed))
    estimating = time.perf_counter() - begin
    print("\n".join(estimate.lines()), flush=True)
    seconds = cpu_seconds = 0.0
    with shown() as progress:

        def evaluate(archs: Sequence[Arch], origin: str) -> list[dict[str, float]]:
            nonlocal seconds, cpu_seconds
            start, cpu_start = time.perf_counter(), time.process_time()
            metrics = trained.evaluator()(archs, origin, progress=progress)
            seconds += time.perf_counter() - start
            cpu_seconds += time.process_time() - cpu_start
            return metrics

        begin = time.perf_counter()
        search(problem, evaluate, budget=evaluations, seed=seed)
        whole = time.perf_counter() - begin
    return {
        "evaluations": evaluations,
        "images": estimate.steps[0].validation_images + estimate.calibration_images,
        "estimated_s": round(estimate.seconds, 1),
        "evaluated_s": round(seconds, 1),
        "estimated_over_evaluated": round(estimate.seconds / seconds, 3),
        "estimated_cpu_s": round(estimate.cpu_seconds, 1),
        "evaluated_cpu_s": round(cpu_seconds, 1),
        "estimated_over_evaluated_cpu": round(estimate.cpu_seconds / cpu_seconds, 3),
        "whole_search_s": round(whole, 1),
        "time_of_estimate_s": round(estimating, 1),
    }


def _train(folder: Path, space: str, n: int) -> Path:
    """A run of a few steps on JPEG files of random classes."""
    images = folder / "images"
    images.mkdir()
    for i, path in enumerate(make_jpegs(images, n)):
        split = "train" if i < TRAINED_ON * n else "val"
        target = images / split / f"class{i % CLASSES}"
        target.mkdir(parents=True, exist_ok=True)
        Path(path).rename(target / f"{i}.jpg")
    changes = [
        f"space={space}",
        "epochs=1",
        "data.dataset=imagefolder",
        f"data.root={images}",
        "data.batch_size=16",
        "sampler.kind=uniform",
    ]
    return train(recipe.load("digits", changes), folder / "run").path


if __name__ == "__main__":
    main()
