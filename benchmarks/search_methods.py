"""Search algorithms on common work: hypervolume after a number of real evaluations.

    python -m benchmarks.search_methods --objective PATH --evaluations 2000 --seeds 5 --json
    python -m benchmarks.search_methods --run RUN --evaluations 200 --seeds 5 --plot search.html

PATH is a file with the functions `accuracy`, `latency` and `hypervolume` over flat genomes of the
once-for-all MobileNetV3 space (see `ofa_mbv3.py`). RUN was searched: its device and its validation split are
used, and what it evaluates is kept in its archive.
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
"""Our algorithm behind each key of the result."""
BUDGETS = (250, 500, 1000, 2000)
BATCH = 50


class Work(NamedTuple):
    """What is searched."""

    problem: Problem
    measure: Callable[[Genomes], Metrics]
    """A real evaluation."""
    volume: Callable[[Genomes, Metrics], float]
    """Hypervolume of evaluated subnets."""


class Run(NamedTuple):
    """One search."""

    hypervolume: dict[int, float]
    """After so many evaluations; every batch counts."""
    seconds_per_round: float
    """The algorithm's own time per batch, without evaluations."""


def synthetic(path: str) -> Work:
    """The work that a file defines."""
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
    """Cross-entropy and latency of a run's subnets on the device that it was searched for."""
    from nas.evaluation.trained_run import TrainedRun
    from nas.search.search_problem import make_problem

    trained = TrainedRun.open(path)
    device = trained.device()
    if device is None:
        raise SystemExit(f"{path} must be searched first: its device is wanted")
    problem, evaluate = make_problem(trained.space, trained.task, device), trained.evaluator()

    def measure(genomes: Genomes) -> Metrics:
        found = evaluate(trained.space.decode(genomes), "benchmark")
        return {name: np.array([metrics[name] for metrics in found]) for name in problem.metrics}

    corners = trained.space.encode([trained.space.smallest, trained.space.largest])
    reference = reference_point(*problem.as_minimization(corners, measure(corners)))

    def volume(genomes: Genomes, metrics: Metrics) -> float:
        return hypervolume(problem.as_minimization(genomes, metrics), reference)

    return Work(problem, measure, volume)


def run(work: Work, method: str, budget: int, seed: int) -> Run:
    """Search with `budget` evaluations, in batches that end at every budget of the table."""
    space = work.problem.space
    optimizer = SEARCH_ALGORITHMS[METHODS[method]](
        SearchTask(work.problem, budget, np.random.default_rng(seed))
    )
    stops = [stop for stop in BUDGETS if stop < budget] + [budget]
    everything = space.encode([space.smallest, space.largest])
    known = dict(work.measure(everything))
    volumes: dict[int, float] = {}
    asked, metrics, spent, rounds = everything, dict(known), 0.0, 0
    while len(asked) and len(everything) < budget:
        start = time.perf_counter()
        optimizer.tell(asked, metrics)
        stop = next(stop for stop in stops if stop > len(everything))
        asked = optimizer.ask(min(BATCH, stop - len(everything)))
        spent += time.perf_counter() - start
        rounds += 1
        metrics = dict(work.measure(asked))
        everything = np.concatenate([everything, asked])
        known = {name: np.concatenate([known[name], metrics[name]]) for name in known}
        reached = len(everything) if len(asked) else stop
        volumes[reached] = work.volume(everything, known)
    volumes |= {stop: volumes[max(volumes)] for stop in stops if stop not in volumes}  # it ended early
    return Run(volumes, spent / rounds)


def measure(work: Work, method: str, evaluations: int, seed: int) -> Run:
    """Hypervolume at every budget up to `evaluations`.

    `predictor_once` plans for its budget, so that each budget is a run of its own.
    """
    budgets = [budget for budget in BUDGETS if budget < evaluations] + [evaluations]
    if method != "predictor_once":
        return run(work, method, evaluations, seed)
    runs = {budget: run(work, method, budget, seed) for budget in budgets}
    return Run(
        {budget: found.hypervolume[budget] for budget, found in runs.items()},
        float(np.mean([found.seconds_per_round for found in runs.values()])),
    )


def plot(results: dict[str, list[Run]], path: Path) -> None:
    """Mean hypervolume of each method against real evaluations, with a bar of one standard deviation."""
    figure = go.Figure()
    for method, runs in results.items():
        common = sorted(set.intersection(*(set(found.hypervolume) for found in runs)))
        volumes = np.array([[found.hypervolume[n] for n in common] for found in runs])
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
    source.add_argument("--objective", help="Python file with the work")
    source.add_argument("--run", type=Path, help="run directory that was searched")
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
    volumes = {budget: np.array([found.hypervolume[budget] for found in runs]) for budget in budgets}
    return {
        "hv": {
            str(b): {"mean": float(f"{v.mean():.6g}"), "std": float(f"{v.std():.6g}")}
            for b, v in volumes.items()
        },
        "seconds_per_round": round(float(np.mean([found.seconds_per_round for found in runs])), 3),
    }


if __name__ == "__main__":
    main()
