"""Searches of architecture and precision together, against searches in one precision.

    python -m benchmarks.joint_precision RUN --device ONE_THREAD --device TWO_THREADS --seeds 5 --json

Each device has a profile of mixed precision. All searches have equal numbers of evaluations and evaluate
their fronts as deployed and on the device. By device:
- `hypervolume`: on cross-entropy as deployed and measured latency, for each search and seed, and its ratio to
  the better one of the two searches in one precision;
- `saving`: the measured and the predicted latency that the front of a joint search saves at equal
  cross-entropy against the fronts of both other searches together, median over the front;
- `kendall_tau`: of the predictor in cross-validation, for fp32, and for the subnets that the joint search
  evaluated as deployed.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hw_profiles.device import Device
from hw_profiles.store import ProfileStore, trusted_connection
from nas.evaluation.deployed import Target
from nas.evaluation.trained_run import TrainedRun
from nas.progress import silent
from nas.search.options import DEFAULT_BUDGET, SearchOptions
from nas.search.problem.hypervolume import MARGIN, hypervolume
from nas.search.search_problem import make_problem
from nas.search.steps import SearchSteps
from nas.search.validated_search import accuracies_on, latencies_on, validate
from predictors import tau
from search_spaces import Space
from search_spaces.genomes import GenomeCodec
from search_spaces.precision_space import GRAINS, INT8_FROM, PrecisionSpace, with_precision
from search_spaces.tensors import FP32, INT8, Precision

Matrix = NDArray[np.float64]
UNIFORM: tuple[Precision, ...] = (FP32, INT8)


@dataclass(frozen=True)
class Found:
    """The result of one search."""

    measured: Matrix
    """Cross-entropy as deployed and measured latency of the front, shape (n, 2)."""
    predicted: Matrix
    """The same with predicted latency."""
    tau: float
    """Kendall's τ-b of the predictor; NaN if there are too few evaluations as deployed."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("--device", action="append", required=True)
    parser.add_argument("--profiles", type=Path)
    parser.add_argument("--grains", nargs="+", default=list(GRAINS), choices=GRAINS)
    parser.add_argument("--algorithm", default="iterative")
    parser.add_argument("--budget", type=int, default=DEFAULT_BUDGET)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--unmeasured", action="store_true", help="use predicted latencies only")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    trained = TrainedRun.open(options.run)
    result = {}
    for name in options.device:
        device = ProfileStore(options.profiles).load(name)
        spaces: dict[str, PrecisionSpace] = {
            precision: in_one_precision(trained.space, precision) for precision in UNIFORM
        }
        spaces |= {grain: with_precision(trained.space, grain) for grain in options.grains}
        by_seed = []
        for seed in range(options.seeds):
            chosen = SearchOptions(algorithm=options.algorithm, budget=options.budget, seed=seed)
            by_seed.append(
                {
                    kind: searched(trained, device, space, chosen, measure=not options.unmeasured)
                    for kind, space in spaces.items()
                }
            )
        result[name] = compared(by_seed)
    print(json.dumps(result) if options.json else json.dumps(result, indent=2))


def in_one_precision(space: Space, precision: Precision) -> PrecisionSpace:
    """A space with the precision as a choice that has only one option."""
    joint = with_precision(space, "from")
    choice = joint.choices[INT8_FROM]
    only = choice.options[0 if precision == INT8 else -1]
    choices = joint.choices | {INT8_FROM: replace(choice, options=(only,))}
    GenomeCodec.__init__(joint, space.name, list(choices.values()))
    return joint


def searched(
    trained: TrainedRun, device: Device, space: PrecisionSpace, options: SearchOptions, *, measure: bool
) -> Found:
    """One search, with its front evaluated as deployed and measured."""
    problem = make_problem(space, trained.task, device)
    metric = trained.task.primary.metric
    if not space.has_int8(space.smallest):  # no evaluations as deployed are needed
        options = replace(options, int8_evaluations=1)
    result = SearchSteps(trained, problem, options, Target.of(device)).search().result
    deployed = accuracies_on(device, trained, problem, silent)
    measured = latencies_on(device, trained, space)
    connection = trusted_connection(device) if measure else None
    validated = validate([result], device, trained, measured, deployed, connection, silent)
    front = validated.fronts[0]
    latency = front["measured_latency_ms"] if measure else front["latency_ms"]
    known = validated.evaluations
    exact = ~known["evaluated_as"].str.startswith("predicted") & known[f"predicted_{metric}"].notna()
    rows = known[exact]
    return Found(
        np.stack([front[metric], latency], axis=1).astype(np.float64),
        np.stack([front[metric], front["latency_ms"]], axis=1).astype(np.float64),
        _tau(rows[f"predicted_{metric}"], rows[metric]),
    )


def compared(by_seed: Sequence[Mapping[str, Found]]) -> dict[str, Any]:
    """The figures of one device; see the description of the module."""
    table: dict[str, Any] = {"hypervolume": {}, "over_better_uniform": {}, "saving": {}, "kendall_tau": {}}
    volumes = []
    for found in by_seed:
        points = np.concatenate([one.measured for one in found.values()])
        reference = MARGIN * points.max(axis=0)
        volumes.append({kind: hypervolume(one.measured, reference) for kind, one in found.items()})
    for kind in by_seed[0]:
        table["hypervolume"][kind] = _rounded([volume[kind] for volume in volumes])
        table["kendall_tau"][kind] = _rounded([found[kind].tau for found in by_seed])
        if kind in UNIFORM:
            continue
        ratios = [volume[kind] / max(volume[one] for one in UNIFORM) for volume in volumes]
        table["over_better_uniform"][kind] = _rounded(ratios)
        table["saving"][kind] = {
            which: _rounded(
                [
                    saving(getattr(found[kind], which), [getattr(found[one], which) for one in UNIFORM])
                    for found in by_seed
                ]
            )
            for which in ("measured", "predicted")
        }
    return table


def saving(front: Matrix, others: Sequence[Matrix]) -> float:
    """The median share of latency that a front saves at equal or lower cross-entropy.

    Args:
        front: cross-entropy and latency of its members, shape (n, 2).
        others: the same of other fronts; a member of `front` is compared with the fastest of their members
            whose cross-entropy is not higher, and left out if there is none.
    """
    known = np.concatenate(others)
    shares = []
    for cross_entropy, latency in front:
        as_good = known[known[:, 0] <= cross_entropy]
        if len(as_good):
            shares.append(1 - latency / as_good[:, 1].min())
    return float(np.median(shares)) if shares else float("nan")


def _tau(predicted: pd.Series, evaluated: pd.Series) -> float:
    if len(predicted) < 3:
        return float("nan")
    return tau(predicted.to_numpy(dtype=np.float64), evaluated.to_numpy(dtype=np.float64))


def _rounded(values: Sequence[float]) -> dict[str, Any]:
    return {"each": np.round(values, 4).tolist(), "mean": round(float(np.mean(values)), 4)}


if __name__ == "__main__":
    main()
