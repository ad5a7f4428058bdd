"""Hypervolume of searches on a trained run with equal numbers of evaluations.

    python -m benchmarks.hypervolume RUN --device NAME --profiles DIR --seeds 5 --json

Subnets are selected on the validation split. The hypervolume is computed from their cross-entropy on the test
split and their latency, measured in a new process for each subnet. The reference point is, for each
objective, 1.05 times the worse value of the smallest and the largest subnet on the validation split.
Differences are paired by seed.
"""

from __future__ import annotations

import argparse
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np

from hw_profiles.device import Device
from hw_profiles.store import ProfileStore
from nas.evaluation.trained_run import TrainedRun
from nas.progress import silent
from nas.report.figures_of_merit import test_hypervolume
from nas.report.final_test import final_test
from nas.search.options import DEFAULT_BUDGET
from nas.search.search_loop import search
from nas.search.search_problem import make_problem
from nas.search.validated_search import accuracies_on, latencies_on, validate


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("--device", required=True)
    parser.add_argument("--profiles", type=Path)
    parser.add_argument("--algorithms", nargs="+", default=["iterative", "predictor", "random"])
    parser.add_argument("--budget", type=int, default=DEFAULT_BUDGET)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    trained = TrainedRun.open(options.run)
    device = ProfileStore(options.profiles).load(options.device)
    volumes = {
        name: [volume(trained, device, name, options.budget, seed) for seed in range(options.seeds)]
        for name in options.algorithms
    }
    random = np.array(volumes["random"])
    result: dict[str, dict[str, Any]] = {
        name: {
            "hypervolume": np.round(values, 6).tolist(),
            "over_random_mean": round(float((np.array(values) / random).mean()), 4),
            "over_random_std": round(float((np.array(values) / random).std(ddof=1)), 4),
        }
        for name, values in volumes.items()
    }
    pairs = list(itertools.combinations(volumes, 2))
    paired = {f"{better} - {worse}": np.subtract(volumes[better], volumes[worse]) for better, worse in pairs}
    result["paired_differences"] = {
        name: {
            "each": np.round(values, 6).tolist(),
            "mean": round(float(values.mean()), 6),
            "standard_error": round(float(values.std(ddof=1) / np.sqrt(len(values))), 6),
        }
        for name, values in paired.items()
    }
    print(json.dumps(result) if options.json else "\n".join(f"{k}: {v}" for k, v in result.items()))


def volume(trained: TrainedRun, device: Device, algorithm: str, budget: int, seed: int) -> float:
    """Hypervolume of the result of one search on the test split."""
    problem = make_problem(trained.space, trained.task, device)
    result = search(problem, trained.evaluator(), algorithm=algorithm, budget=budget, seed=seed)
    measured = latencies_on(device, trained, trained.space)
    deployed = accuracies_on(device, trained, problem, silent)
    connection = device.profile.connection
    (front,) = validate([result], device, trained, measured, deployed, connection, silent).fronts
    test = final_test(trained, front["arch"].tolist())
    return test_hypervolume(front, test, result.record()["reference"], trained.task)


if __name__ == "__main__":
    main()
