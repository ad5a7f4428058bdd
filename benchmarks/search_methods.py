"""Search algorithms on common synthetic work: hypervolume after a number of real evaluations.

    python benchmarks/search_methods.py --objective PATH --evaluations 2000 --seeds 5 --json

PATH is a file with the functions `accuracy`, `latency` and `hypervolume` over flat genomes of the
once-for-all MobileNetV3 space (see `ofa_mbv3.py`).
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np

sys.path[0] = str(
    Path(__file__).parents[1]
)  # this folder holds a file with the name of our package `predictors`

from benchmarks import ofa_mbv3  # noqa: E402
from nas.objectives import Computed, Measured, Problem  # noqa: E402
from nas.optimizers import SEARCH_ALGORITHMS, Task  # noqa: E402
from search_spaces import Space  # noqa: E402

METHODS = {
    "iterative": "iterative",
    "exact": "exact",
    "predictor_once": "predictor",
    "linas": "linas",
    "nsga2": "nsga2",
    "regularized_evolution": "regularized_evolution",
    "random": "random",
}
"""Our algorithm behind each key of the result."""
BUDGETS = (250, 500, 1000, 2000)
BATCH = 50


class Run(NamedTuple):
    """One search."""

    hypervolume: dict[int, float]
    """After so many evaluations."""
    seconds_per_round: float
    """The algorithm's own time per batch; the work itself takes none."""


def run(work: ModuleType, space: Space, method: str, budget: int, seed: int) -> Run:
    """Search with `budget` evaluations, in batches that end at every budget of the table."""
    problem = Problem(
        space,
        [
            Measured("accuracy", "top1", "%", maximise=True),
            Computed("latency_ms", ofa_mbv3.summed(space, work.latency), "ms"),
        ],
    )
    optimizer = SEARCH_ALGORITHMS[METHODS[method]](Task(problem, budget, np.random.default_rng(seed)))
    stops = [stop for stop in BUDGETS if stop < budget] + [budget]
    asked = everything = space.encode([space.smallest, space.largest])
    hypervolume: dict[int, float] = {}
    start, rounds = time.perf_counter(), 0
    while len(asked) and len(everything) < budget:
        optimizer.tell(asked, {"top1": work.accuracy(ofa_mbv3.flat(space, asked))})
        stop = next(stop for stop in stops if stop > len(everything))
        asked = optimizer.ask(min(BATCH, stop - len(everything)))
        everything = np.concatenate([everything, asked])
        rounds += 1
        if len(everything) == stop or len(asked) == 0:
            genomes = ofa_mbv3.flat(space, everything)
            hypervolume[stop] = work.hypervolume(work.accuracy(genomes), work.latency(genomes))
    return Run(hypervolume, (time.perf_counter() - start) / rounds)


def measure(work: ModuleType, space: Space, method: str, evaluations: int, seed: int) -> Run:
    """Hypervolume at every budget up to `evaluations`.

    `predictor_once` plans for its budget, so that each budget is a run of its own.
    """
    budgets = [budget for budget in BUDGETS if budget < evaluations] + [evaluations]
    runs = [
        run(work, space, method, b, seed) for b in (budgets if method == "predictor_once" else budgets[-1:])
    ]
    if len(runs) == 1:
        return runs[0]
    hypervolume = {b: r.hypervolume[b] for b, r in zip(budgets, runs, strict=True)}
    return Run(hypervolume, float(np.mean([r.seconds_per_round for r in runs])))


def load(path: str) -> ModuleType:
    """The file at `path` as a module."""
    spec = importlib.util.spec_from_file_location("objective", path)
    if spec is None or spec.loader is None:
        raise SystemExit(f"--objective must be a Python file, got {path}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--objective", required=True, help="Python file with the work")
    parser.add_argument("--evaluations", type=int, default=2000, help="real evaluations of each search")
    parser.add_argument("--seeds", type=int, default=5, help="searches of each method")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--json", action="store_true", help="print one line of JSON at the end")
    options = parser.parse_args()
    work, space = load(options.objective), ofa_mbv3.space()
    results = {}
    for method in options.methods:
        runs = [measure(work, space, method, options.evaluations, seed) for seed in range(options.seeds)]
        volumes = {
            budget: np.array([run.hypervolume[budget] for run in runs]) for budget in runs[0].hypervolume
        }
        results[method] = {
            "hv": {
                str(b): {"mean": round(float(v.mean()), 2), "std": round(float(v.std()), 2)}
                for b, v in volumes.items()
            },
            "seconds_per_round": round(float(np.mean([run.seconds_per_round for run in runs])), 3),
        }
        print(method, results[method])
    if options.json:
        print(json.dumps(results))


if __name__ == "__main__":
    main()
