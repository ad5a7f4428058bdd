"""Speed of the parts of a search on one core, in subnets per second.

    python -m benchmarks.search_speed --json

The parts:
- `features`: conversion of genomes to features;
- `table`: latency from a lookup table of blocks;
- `linear`: features, linear predictor and table together, without NSGA-II;
- `search_linear`: NSGA-II with a population of 100, the linear predictor and the table;
- `search_default`: the same with the default predictor and its standard deviation.

The table has random latencies, which does not affect the speed.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

import search_spaces
from hw_profiles.latency_models.lookup_table import LatencyTable, SpaceLatency
from hw_profiles.latency_models.robust_regression import Affine
from nas.search.algorithms.evolution import Score, evolve
from nas.search.algorithms.surrogate import Surrogate
from nas.search.problem.objectives import CostObjective, MetricObjective
from nas.search.problem.problem import Problem
from predictors import PREDICTORS, Features, MetricModel
from search_spaces import Genomes, Space, block_key
from search_spaces.costs import macs_table

DEFAULT = next(iter(PREDICTORS))
DEVIATIONS = 0.5
"""Number of standard deviations in the objective, as in the iterative search."""


def rate(work: Callable[[], object], subnets: int, repeats: int) -> float:
    """Subnets per second of CPU time; the maximum of `repeats` runs."""
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    return subnets / min(seconds)


def random_table(space: Space, rng: np.random.Generator) -> SpaceLatency:
    """A table with random latencies of all blocks of the space."""
    keys = list(dict.fromkeys(block_key(block) for slot in space.slots for block in space.slot_blocks(slot)))
    blocks = pd.DataFrame({"block_key": keys, "latency_ms": rng.uniform(0.1, 1.0, len(keys))})
    return LatencyTable("random", blocks, Affine(slope=1.0, intercept_ms=0.0)).of(space)


def accuracy(space: Space, genomes: Genomes, rng: np.random.Generator) -> NDArray[np.float64]:
    """Synthetic accuracy that grows with the MACs."""
    values: NDArray[np.float64] = np.log(macs_table(space)(genomes)) + rng.normal(0, 0.05, len(genomes))
    return values


def measure(space: Space, train: int, subnets: int, repeats: int) -> dict[str, float]:
    """Speed of each part, with predictors fitted to `train` subnets."""
    rng = np.random.default_rng(0)
    features, latency_ms = Features(space), random_table(space, rng)
    problem = Problem(
        space, [MetricObjective("accuracy", "top1", maximise=True), CostObjective("latency_ms", latency_ms)]
    )
    evaluated, genomes = space.sample(rng, train), space.sample(rng, subnets)
    values = accuracy(space, evaluated, rng)

    def surrogate(name: str) -> Surrogate:
        model = MetricModel.fit("top1", name, PREDICTORS[name], features, evaluated, values, seed=0)
        return Surrogate(problem, {"top1": model})

    linear, default = surrogate("ridge"), surrogate(DEFAULT)

    def search(score: Score) -> Callable[[], object]:
        return lambda: evolve(space, score, evaluated, np.random.default_rng(0), subnets)

    parts: dict[str, Callable[[], object]] = {
        "features": lambda: [features(genomes[i : i + 400]) for i in range(0, subnets, 400)],
        "table": lambda: latency_ms(genomes),
        "linear": lambda: linear.mean(genomes),
        "search_linear": search(linear.mean),
        "search_default": search(lambda rows: default.optimistic(rows, DEVIATIONS)),
    }
    return {name: round(rate(work, subnets, repeats)) for name, work in parts.items()}


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--space", default="ofa-mbv3-w1.0", help="name or YAML file")
    parser.add_argument("--train", type=int, default=250, help="training subnets of the predictors")
    parser.add_argument("--subnets", type=int, default=20_000, help="subnets in each measurement")
    parser.add_argument("--repeats", type=int, default=3, help="measurements; the fastest is reported")
    parser.add_argument("--json", action="store_true", help="print one line of JSON at the end")
    options = parser.parse_args()
    space = search_spaces.get(options.space)
    rates = measure(space, options.train, options.subnets, options.repeats)
    for name, per_second in rates.items():
        print(f"{name:16} {per_second:>12,.0f} subnets/s")
    if options.json:
        print(json.dumps({"space": space.name, "default": DEFAULT, "subnets_per_second": rates}))


if __name__ == "__main__":
    main()
