"""Joint searches of architecture and precision, compared with searches in one precision.

    python -m benchmarks.joint_precision RUN --out DIR --size small --threads 1 2

The run is copied to DIR, and this machine is profiled in mixed precision for each number of threads. Searches
in fp32, in INT8 and with each grain have equal numbers of evaluations. Their fronts are evaluated as deployed
and measured on this machine. After an interruption, the same command continues; finished searches are not
repeated. After each seed, the figures so far are printed, by number of threads:
- `hypervolume`: of each search, on cross-entropy as deployed and latency;
- `over_better_uniform`: for each seed, the hypervolume of a joint search relative to the better one of both
  searches in one precision;
- `saving`: the share of latency that the front of a joint search saves at equal cross-entropy, compared with
  the fronts of both searches in one precision together; median over the front;
- `kendall_tau`: of the predictor in cross-validation, for fp32, and for the subnets that the joint search
  evaluated as deployed;
- `noise_floor` and `mape` of the device profile.
The first three are printed for measured and for predicted latencies.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel

from hw_profiles.atomic_write import replace_file
from hw_profiles.device import Device
from hw_profiles.latency_models.prediction_error import Figure
from hw_profiles.run_settings import RunSettings
from hw_profiles.store import ProfileStore, trusted_connection
from nas.devices.profiling import profile_device
from nas.evaluation.deployed import Target
from nas.evaluation.trained_run import TrainedRun
from nas.progress import shown, silent
from nas.runs.tables import EVALUATED_AS
from nas.search.options import SearchOptions
from nas.search.problem.hypervolume import MARGIN, hypervolume
from nas.search.search_problem import make_problem
from nas.search.steps import SearchSteps
from nas.search.validated_search import accuracies_on, latencies_on, validate
from predictors import tau
from search_spaces import Space
from search_spaces.genomes import GenomeCodec
from search_spaces.precision_space import GRAINS, INT8_FROM, Grain, PrecisionSpace, with_precision
from search_spaces.tensors import FP32, INT8, Precision

Matrix = NDArray[np.float64]
UNIFORM: tuple[Precision, ...] = (FP32, INT8)


class Size(NamedTuple):
    """Size of a comparison, which determines its cost."""

    budget: int
    """Number of evaluations of each search."""
    validation_images: int | None
    """Number of validation images of each evaluation; None: all."""
    held_out: int
    """Number of subnets that a device profile is tested on."""


SIZES: Mapping[str, Size] = {
    "trial": Size(16, 100, 9),
    "small": Size(40, 500, 24),
    "medium": Size(100, 500, 24),
    "full": Size(200, None, 48),
}


class Found(BaseModel, frozen=True):
    """The result of one search: one entry for each member of its front."""

    loss: list[float]
    """Primary metric as deployed, lower is better."""
    measured_ms: list[float]
    predicted_ms: list[float]
    tau: Figure
    """Kendall's τ-b of the predictor; NaN if there are too few evaluations as deployed."""
    seconds: float

    def points(self, which: str) -> Matrix:
        """Loss and latency, shape (n, 2); `which` is `measured` or `predicted`."""
        latency = self.measured_ms if which == "measured" else self.predicted_ms
        return np.array([self.loss, latency]).T


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--size", default="small", choices=SIZES)
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--grains", nargs="+", default=list(GRAINS), choices=GRAINS)
    parser.add_argument("--algorithm", default="iterative")
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    size: Size = SIZES[options.size]
    copy = options.out / f"run-{options.size}"
    if not copy.exists():
        partial = copy.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(options.run, partial)
        partial.rename(copy)
    trained = TrainedRun.open(copy).with_validation_images(size.validation_images)
    devices = [profiled(trained.space, options.out, threads, size.held_out) for threads in options.threads]
    by_device: dict[str, list[dict[str, Found]]] = {device.profile.name: [] for device in devices}
    for seed in range(options.seeds):
        chosen = SearchOptions(algorithm=options.algorithm, budget=size.budget, seed=seed)
        for device in devices:
            found = {
                kind: stored(copy / "found", kind, trained, device, space, chosen)
                for kind, space in spaces(trained.space, options.grains).items()
            }
            by_device[device.profile.name].append(found)
        result = {device.profile.name: figures(device, by_device[device.profile.name]) for device in devices}
        print("\n".join([f"after seed {seed}:", *lines(result)]), flush=True)


def profiled(space: Space, folder: Path, threads: int, held_out: int) -> Device:
    """The profile of this machine in mixed precision."""
    store, name = ProfileStore(folder / "profiles"), f"mixed-{threads}t-{held_out}"
    if name in store.names():
        return store.load(name)
    settings = RunSettings(precision="mixed", threads=threads)
    with shown() as progress:
        return profile_device(space, name, store, settings=settings, n_held_out=held_out, progress=progress)


def spaces(space: Space, grains: Sequence[Grain]) -> dict[str, PrecisionSpace]:
    """The spaces that are searched, by name."""
    uniform: dict[str, PrecisionSpace] = {
        precision: in_one_precision(space, precision) for precision in UNIFORM
    }
    return {**uniform, **{grain: with_precision(space, grain) for grain in grains}}


def stored(
    folder: Path,
    kind: str,
    trained: TrainedRun,
    device: Device,
    space: PrecisionSpace,
    options: SearchOptions,
) -> Found:
    """The result of a search, read from its file; if there is no file, the search is run."""
    name = f"{device.profile.name}-{kind}-{options.algorithm}-{options.seed}"
    path = folder / f"{name}.json"
    if not path.exists():
        found = searched(trained, device, space, options)
        replace_file(path, found.model_dump_json())
        print(f"{name}: {len(found.loss)} subnets in {found.seconds:.0f} s", file=sys.stderr, flush=True)
    return Found.model_validate_json(path.read_text(encoding="utf-8"))


def in_one_precision(space: Space, precision: Precision) -> PrecisionSpace:
    """A space with the precision as a choice that has only one option."""
    joint = with_precision(space, "from")
    choice = joint.choices[INT8_FROM]
    only = choice.options[0 if precision == INT8 else -1]
    choices = joint.choices | {INT8_FROM: replace(choice, options=(only,))}
    GenomeCodec.__init__(joint, space.name, list(choices.values()))
    return joint


def searched(trained: TrainedRun, device: Device, space: PrecisionSpace, options: SearchOptions) -> Found:
    """One search, with its front evaluated as deployed and measured."""
    began = time.perf_counter()
    problem = make_problem(space, trained.task, device)
    metric = trained.task.primary.metric
    if not space.has_int8(space.smallest):  # no evaluations as deployed are needed
        options = replace(options, int8_evaluations=1)
    result = SearchSteps(trained, problem, options, Target.of(device)).search().result
    deployed = accuracies_on(device, trained, problem, silent)
    measured = latencies_on(device, trained, space)
    validated = validate([result], device, trained, measured, deployed, trusted_connection(device), silent)
    front, known = validated.fronts[0], validated.evaluations
    exact = ~known[EVALUATED_AS].str.startswith("predicted") & known[f"predicted_{metric}"].notna()
    rows = known[exact]
    sign = 1 if trained.task.metrics[metric].direction == "min" else -1
    return Found(
        loss=(sign * front[metric]).tolist(),
        measured_ms=front["measured_latency_ms"].tolist(),
        predicted_ms=front["latency_ms"].tolist(),
        tau=_tau(rows[f"predicted_{metric}"], rows[metric]),
        seconds=time.perf_counter() - began,
    )


def figures(device: Device, by_seed: Sequence[Mapping[str, Found]]) -> dict[str, Any]:
    """The figures of one device; see the description of the module."""
    profile = device.profile
    table: dict[str, Any] = {"noise_floor": profile.noise_floor, "mape": profile.held_out.mape}
    kinds = list(by_seed[0])
    joint = [kind for kind in kinds if kind not in UNIFORM]
    for which in ("measured", "predicted"):
        volumes = [_volumes({kind: one.points(which) for kind, one in found.items()}) for found in by_seed]
        table[which] = {
            "hypervolume": {kind: _rounded([volume[kind] for volume in volumes]) for kind in kinds},
            "over_better_uniform": {
                kind: _rounded([volume[kind] / max(volume[one] for one in UNIFORM) for volume in volumes])
                for kind in joint
            },
            "saving": {
                kind: _rounded(
                    [
                        saving(found[kind].points(which), [found[one].points(which) for one in UNIFORM])
                        for found in by_seed
                    ]
                )
                for kind in joint
            },
        }
    table["kendall_tau"] = {kind: _rounded([found[kind].tau for found in by_seed]) for kind in kinds}
    table["seconds"] = {kind: _rounded([found[kind].seconds for found in by_seed]) for kind in kinds}
    return table


def _volumes(fronts: Mapping[str, Matrix]) -> dict[str, float]:
    """The hypervolume of each front, with the same reference point."""
    reference = MARGIN * np.concatenate(list(fronts.values())).max(axis=0)
    return {kind: hypervolume(points, reference) for kind, points in fronts.items()}


def lines(result: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """The figures as lines of text, each with the path of its keys."""
    for name, value in result.items():
        if isinstance(value, dict) and "each" not in value:
            yield from lines(value, f"{path}{name} ")
        else:
            yield f"{path}{name}: {json.dumps(value)}"


def saving(front: Matrix, others: Sequence[Matrix]) -> float:
    """The median share of latency that a front saves at equal or lower cross-entropy.

    Args:
        front: cross-entropy and latency of its members, shape (n, 2).
        others: cross-entropy and latency of the members of other fronts. A member of `front` is compared with
            the fastest of these members whose cross-entropy is not higher, and left out if there is none.
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
