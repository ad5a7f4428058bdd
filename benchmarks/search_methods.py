"""Hypervolume of search algorithms by number of evaluations.

    python -m benchmarks.search_methods --objective PATH --evaluations 2000 --seeds 5 --json
    python -m benchmarks.search_methods --run RUN --evaluations 200 --seeds 5 --plot search.html

PATH is a file with the functions `accuracy`, `latency` and `hypervolume` of flat genomes of the OFA
MobileNetV3 space (see `ofa_mbv3.py`). RUN is a run with a search: its device and its validation split are
used, and evaluations are stored in its archive.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import plotly.graph_objects as go

from benchmarks import ofa_mbv3
from nas.search.algorithms import SEARCH_ALGORITHMS, SearchTask
from nas.search.problem.hypervolume import hypervolume, reference_point
from nas.search.problem.objectives import CostObjective, MetricObjective, Metrics
from nas.search.problem.problem import Problem
from search_spaces import Genomes

METHODS = {
    "iterative": "iterative",
    "exact": "exact",
    "predictor_once": "predictor",
    "linas": "linas",
    "nsga2": "nsga2",
    "regularized_evolution": "regularized_evolution",
    "coarse_to_fine": "coarse_to_fine",
    "random": "random",
}
"""Search algorithm of each key of the result."""
BUDGETS = (250, 500, 1000, 2000)
BATCH = 50


class Work(NamedTuple):
    """A search problem with its evaluation."""

    problem: Problem
    measure: Callable[[Genomes], Metrics]
    """Evaluates subnets."""
    volume: Callable[[Genomes, Metrics], float]
    """Hypervolume of evaluated subnets."""


class Run(NamedTuple):
    """The result of one search."""

    hypervolume: dict[int, float]
    """Hypervolume by number of evaluations, after every batch."""
    seconds_per_round: float
    """Time of the algorithm per batch, without evaluations."""


def synthetic(path: str) -> Work:
    """The search problem of a Python file."""
    work, space = ofa_mbv3.objective(path), ofa_mbv3.space()
    latency = CostObjective("latency_ms", ofa_mbv3.summed(space, work.latency), "ms")

    def volume(genomes: Genomes, metrics: Metrics) -> float:
        return float(work.hypervolume(metrics["top1"], work.latency(ofa_mbv3.flat(space, genomes))))

    return Work(
        Problem(space, [MetricObjective("accuracy", "top1", "%", maximise=True), latency]),
        lambda genomes: {"top1": work.accuracy(ofa_mbv3.flat(space, genomes))},
        volume,
    )


def of_run(path: Path) -> Work:
    """The search problem of a run: cross-entropy, and latency on the device of its search."""
    from nas.evaluation.trained_run import TrainedRun
    from nas.search.search_problem import make_problem

    trained = TrainedRun.open(path)
    device = trained.device()
    if device is None:
        raise SystemExit(f"{path} must have a search, whose device is used; run `nas search` first")
    problem, evaluate = make_problem(trained.space, trained.task, device), trained.evaluator()

    def measure(genomes: Genomes) -> Metrics:
        results = evaluate(trained.space.decode(genomes), "benchmark")
        return {name: np.array([metrics[name] for metrics in results]) for name in problem.metrics}

    corners = trained.space.encode([trained.space.smallest, trained.space.largest])
    reference = reference_point(*problem.as_minimization(corners, measure(corners)))

    def volume(genomes: Genomes, metrics: Metrics) -> float:
        return hypervolume(problem.as_minimization(genomes, metrics), reference)

    return Work(problem, measure, volume)


def run(work: Work, method: str, budget: int, seed: int) -> Run:
    """Search with `budget` evaluations, in batches that end at each of `BUDGETS`."""
    space = work.problem.space
    optimizer = SEARCH_ALGORITHMS[METHODS[method]](
        SearchTask(work.problem, budget, np.random.default_rng(seed))
    )
    stops = [stop for stop in BUDGETS if stop < budget] + [budget]
    genomes = space.encode([space.smallest, space.largest])
    metrics = dict(work.measure(genomes))
    volumes: dict[int, float] = {}
    batch, batch_metrics, seconds, rounds = genomes, dict(metrics), 0.0, 0
    while len(batch) and len(genomes) < budget:
        start = time.perf_counter()
        optimizer.tell(batch, batch_metrics)
        stop = next(stop for stop in stops if stop > len(genomes))
        batch = optimizer.ask(min(BATCH, stop - len(genomes)))
        seconds += time.perf_counter() - start
        rounds += 1
        batch_metrics = dict(work.measure(batch))
        genomes = np.concatenate([genomes, batch])
        metrics = {name: np.concatenate([metrics[name], batch_metrics[name]]) for name in metrics}
        volumes[len(genomes) if len(batch) else stop] = work.volume(genomes, metrics)
    # a search that stops early has its last hypervolume at all later budgets
    volumes |= {stop: volumes[max(volumes)] for stop in stops if stop not in volumes}
    return Run(volumes, seconds / rounds)


def measure(work: Work, method: str, evaluations: int, seed: int) -> Run:
    """Hypervolume at every budget up to `evaluations`.

    The evaluations of `predictor_once` depend on its budget, so each budget is a separate search.
    """
    budgets = [budget for budget in BUDGETS if budget < evaluations] + [evaluations]
    if method != "predictor_once":
        return run(work, method, evaluations, seed)
    runs = {budget: run(work, method, budget, seed) for budget in budgets}
    return Run(
        {budget: result.hypervolume[budget] for budget, result in runs.items()},
        float(np.mean([result.seconds_per_round for result in runs.values()])),
    )


def plot(results: dict[str, list[Run]], path: Path) -> None:
    """Plot the mean hypervolume of each method by evaluations, with error bars of one standard deviation."""
    figure = go.Figure()
    for method, runs in results.items():
        common = sorted(set.intersection(*(set(result.hypervolume) for result in runs)))
        volumes = np.array([[result.hypervolume[n] for n in common] for result in runs])
        spread = {"type": "data", "array": volumes.std(axis=0)}
        figure.add_scatter(x=common, y=volumes.mean(axis=0), error_y=spread, name=method)
    figure.update_layout(
        xaxis_title="real evaluations",
        yaxis_title="hypervolume",
        template="plotly_white",
        title=f"{path.stem}",
    )
    figure.write_html(path)


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--objective", help="Python file with the search problem")
    source.add_argument("--run", type=Path, help="run directory with a search")
    parser.add_argument("--evaluations", type=int, default=2000, help="real evaluations of each search")
    parser.add_argument("--seeds", type=int, default=5, help="searches of each method")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--plot", type=Path, metavar="FILE.html", help="hypervolume against evaluations")
    parser.add_argument("--json", action="store_true", help="print one line of JSON at the end")
    options = parser.parse_args()
    work = synthetic(options.objective) if options.objective else of_run(options.run)
    budgets = [budget for budget in BUDGETS if budget < options.evaluations] + [options.evaluations]
    runs, results = {}, {}
    for method in options.methods:
        runs[method] = [measure(work, method, options.evaluations, seed) for seed in range(options.seeds)]
        results[method] = summary(runs[method], budgets)
        print(method, results[method], flush=True)
    if options.plot:
        plot(runs, options.plot)
    if options.json:
        print(json.dumps(results))


def summary(runs: list[Run], budgets: list[int]) -> dict[str, object]:
    """Mean and standard deviation over seeds, to six digits."""
    volumes = {budget: np.array([result.hypervolume[budget] for result in runs]) for budget in budgets}
    return {
        "hv": {
            str(b): {"mean": float(f"{v.mean():.6g}"), "std": float(f"{v.std():.6g}")}
            for b, v in volumes.items()
        },
        "seconds_per_round": round(float(np.mean([result.seconds_per_round for result in runs])), 3),
    }


if __name__ == "__main__":
    main()
