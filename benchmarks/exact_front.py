"""The exact Pareto front of the OFA MobileNetV3 space, compared with that of NSGA-II.

    python -m benchmarks.exact_front --device NAME --profiles DIR --evaluations 500000 --json

Minimizes the latency of a device and maximizes a synthetic accuracy that is a sum over blocks. Without
--device, the latency is synthetic too. The results are the time to compute the exact front (without its
tables), the number of subnets in the front of NSGA-II that are weakly dominated by the exact front, and the
hypervolume of NSGA-II relative to that of the exact front.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import search_spaces
from hw_profiles.store import ProfileStore
from nas.search.algorithms.evolution import evolve
from nas.search.problem.exact_front import Additive, Negated, exact_front
from nas.search.problem.hypervolume import hypervolume, reference_point
from search_spaces import Block, BlockTable, Genomes

Matrix = NDArray[np.float64]


def accuracy(rng: np.random.Generator) -> BlockTable:
    """Synthetic accuracy: the sum of the logarithms of the MACs of blocks, with random factors."""

    def gain(block: Block) -> float:
        return float(np.log1p(block.macs / 1e6) * rng.uniform(0.5, 1.5))

    space = search_spaces.get("ofa-mbv3-w1.0")
    return BlockTable(space, gain)


def synthetic_latency(rng: np.random.Generator) -> BlockTable:
    """Synthetic latency in ms: linear in MACs and layers, with a random factor of ±20 % for each block."""

    def cost(block: Block) -> float:
        return float((0.02 * len(block.nodes) + 1e-8 * block.macs) * rng.uniform(0.8, 1.2))

    return BlockTable(search_spaces.get("ofa-mbv3-w1.0"), cost)


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device")
    parser.add_argument("--profiles", type=Path)
    parser.add_argument("--evaluations", type=int, default=500_000, help="of NSGA-II")
    parser.add_argument("--population", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print one line of JSON at the end")
    options = parser.parse_args()
    space, rng = search_spaces.get("ofa-mbv3-w1.0"), np.random.default_rng(options.seed)
    latency: Additive = synthetic_latency(rng)
    if options.device:
        latency = ProfileStore(options.profiles).load(options.device).latency(space)
    gain = accuracy(rng)

    start = time.perf_counter()
    front = exact_front(space, [latency, Negated(gain)])
    seconds = time.perf_counter() - start

    def score(genomes: Genomes) -> tuple[Matrix, Matrix]:
        return np.stack([latency(genomes), -gain(genomes)], axis=1), np.zeros((len(genomes), 0))

    corners = space.encode([space.smallest, space.largest])
    evolved = evolve(space, score, corners, rng, options.evaluations, options.population)
    covered = [(front.minimised <= point).all(axis=1).any() for point in evolved.minimised]
    reference = reference_point(*score(corners)[0])
    result = {
        "seconds": round(seconds, 3),
        "subnets": len(front.genomes),
        "exact": front.exact,
        "nsga2_subnets": len(covered),
        "nsga2_subnets_covered": int(np.sum(covered)),
        "nsga2_hypervolume_share": round(
            hypervolume(evolved.minimised, reference) / hypervolume(front.minimised, reference), 5
        ),
    }
    print(json.dumps(result) if options.json else "\n".join(f"{k}: {v}" for k, v in result.items()))


if __name__ == "__main__":
    main()
