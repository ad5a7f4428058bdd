"""Quality of latency predictions from a profile of this machine.

    python -m benchmarks.latency_table --space cifar --precision int8 --threads 2 --search macs --loaded

This command profiles the space and evaluates the predictions on held-out subnets. With --search, the
predictions are also evaluated on the results of a search, which prefers subnets whose latency is
underestimated: `macs` searches for the most MACs at each latency; the path of a RUN of this space copies the
run for `nas search`. With --loaded, the space is profiled again while another process uses one core, and the
ranks of random subnets in both profiles are compared. Everything together takes about 2.5 times as long as a
profile.

    python -m benchmarks.latency_table --space cifar --precision mixed --threads 2 --profiles DIR

measures a mixed profile: errors and noise floors of subnets in fp32, in INT8 and of mixed precision, and the
change of the signed error with each border. With --profiles, the profile is kept in DIR, and after an
interruption, the same command continues.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from scipy.stats import spearmanr

import search_spaces
from hw_profiles.device import Device
from hw_profiles.latency_models.mixed_subnets import GROUPS
from hw_profiles.latency_models.prediction_error import PrecisionErrors, compare
from hw_profiles.profile import DeviceProfile
from hw_profiles.profile_warnings import profile_warnings
from hw_profiles.run_settings import RunSettings
from hw_profiles.store import ProfileStore
from nas.devices.profile_check import measure_twice
from nas.devices.profile_work import N_HELD_OUT
from nas.devices.profiling import profile_device
from nas.evaluation.trained_run import TrainedRun
from nas.onnx_backend.precision import PRECISIONS
from nas.progress import shown
from nas.runs.files import SEARCH_CSV
from nas.search.algorithms.evolution import Evolution
from nas.search.options import SearchOptions
from nas.search.problem.hypervolume import nondominated
from nas.search.search_run import search_run
from search_spaces import Arch, Space
from search_spaces.costs import macs_table

GENERATIONS, POPULATION = 100, 100
N_SEARCHED = 16
N_RANKED = 500


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--space", default="cifar")
    parser.add_argument("--precision", default="fp32", choices=PRECISIONS)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--held-out", type=int, default=N_HELD_OUT)
    parser.add_argument("--search", metavar="RUN", help="`macs`, or a run of the space")
    parser.add_argument("--loaded", action="store_true")
    parser.add_argument("--profiles", type=Path, metavar="DIR")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    space = search_spaces.get(options.space)
    settings = RunSettings(precision=options.precision, threads=options.threads)
    with TemporaryDirectory() as folder, shown() as progress:
        store = ProfileStore(options.profiles or folder)

        def profiled(name: str) -> Device:
            name = f"{name}-{options.space}-{options.precision}-{options.threads}t"
            if name in store.names():
                return store.load(name)
            return profile_device(
                space,
                name,
                store,
                settings=settings,
                n_held_out=options.held_out,
                seed=options.seed,
                progress=progress,
            )

        device = profiled("quiet")
        result: dict[str, Any] = {"held_out": figures(device.profile)}
        if options.search:
            result["searched"] = searched(space, device, options.search, options.seed)
        if options.loaded:
            with one_busy_core():
                result["loaded"] = compare_profiles(space, device, profiled("loaded"), options.seed)
    result["targets"] = targets(space, device.profile, result)
    if options.json:
        print(json.dumps(result))
    else:
        _show(result)


def figures(profile: DeviceProfile) -> dict[str, Any]:
    """Figures and warnings of a profile."""
    return {
        "blocks": profile.n_blocks,
        "latency_model": profile.latency_model,
        "seconds": profile.seconds - profile.check_seconds,
        "check_seconds": profile.check_seconds,
        "noise_floor": profile.noise_floor,
        "warnings": profile_warnings(profile),
        "precisions": profile.precisions and profile.precisions.model_dump(),
        **profile.held_out.model_dump(),
        "by_macs": profile.held_out_macs.model_dump(),
    }


def searched(space: Space, device: Device, method: str, seed: int) -> dict[str, Any]:
    """Errors on the subnets of a search."""
    if method == "macs":
        archs = _most_macs(space, device, np.random.default_rng(seed))
        measured, again = measure_twice(space, archs, device)
        predicted = device.latency(space)(space.encode(archs))
        return {"noise_floor": compare(again, measured).mape, **compare(predicted, measured).model_dump()}
    with TemporaryDirectory() as folder:
        trained = TrainedRun.open(shutil.copytree(method, Path(folder) / "run"))
        search_run(trained, device, SearchOptions(seed=seed))
        rows = trained.run.search().read_csv(SEARCH_CSV).dropna(subset="measured_latency_ms")
    return compare(rows["latency_ms"].to_numpy(), rows["measured_latency_ms"].to_numpy()).model_dump()


def _most_macs(space: Space, device: Device, rng: np.random.Generator) -> list[Arch]:
    """Subnets of the front of MACs and predicted latency, evenly spaced."""
    predict = device.latency(space)
    evolution = Evolution(space, space.sample(rng, POPULATION), 2, 0, rng, POPULATION)
    evaluated, points = [], []
    for _ in range(GENERATIONS):
        genomes = space.canonical(evolution.ask())
        values = np.stack([predict(genomes), -macs_table(space)(genomes)], axis=1)
        evolution.tell(values, np.zeros((len(genomes), 0)))
        evaluated.append(genomes)
        points.append(values)
    front = nondominated(np.concatenate(points))
    order = front[np.argsort(np.concatenate(points)[front, 0])]
    rows = np.unique(np.linspace(0, len(order) - 1, N_SEARCHED).round().astype(int))
    return space.decode(np.concatenate(evaluated)[order[rows]])


def compare_profiles(space: Space, quiet: Device, loaded: Device, seed: int) -> dict[str, Any]:
    """Figures of the profile of a busy machine, and its rank correlation with that of an idle machine."""
    genomes = space.sample(np.random.default_rng(seed), N_RANKED)
    first, second = (device.latency(space)(genomes) for device in (quiet, loaded))
    return {"spearman_to_quiet": float(spearmanr(first, second).statistic), **figures(loaded.profile)}


@contextmanager
def one_busy_core() -> Iterator[None]:
    """Context in which another process uses one core."""
    process = multiprocessing.get_context("spawn").Process(target=_busy, daemon=True)
    process.start()
    try:
        yield
    finally:
        process.terminate()
        process.join()


def _busy() -> None:
    x = np.random.default_rng(0).random((256, 256))
    while True:
        x = np.tanh(x @ x.T / 256)


def targets(space: Space, profile: DeviceProfile, result: dict[str, Any]) -> list[dict[str, Any]]:
    """Targets and whether the figures meet them."""
    small = max(space.resolutions) <= 32
    error, floor = profile.held_out, profile.noise_floor or 0.0
    limit = max(1.5 * floor, 0.015 if small else 0.025)
    if profile.key.precision == "int8":
        limit = 0.03
    if profile.key.threads > 1:
        limit = 0.05
    rows = [
        ("noise floor", floor, "<=", 0.04),
        ("MAPE", error.mape, "<=", limit),
        ("Kendall tau", error.kendall_tau, ">=", 0.95 if profile.key.precision == "int8" else 0.98),
        ("within 5 %", error.within_5_percent, ">=", 1.0 if small else 0.0),
    ]
    if profile.n_blocks <= 250:
        rows.append(("seconds without held-out checks", result["held_out"]["seconds"], "<=", 60))
    if profile.precisions:
        rows += _by_precision(profile.precisions)
    if "searched" in result:
        rows.append(("searched: MAPE", result["searched"]["mape"], "<=", limit))
        rows.append(("searched: |bias|", abs(result["searched"]["bias"]), "<=", 0.02))
    if "loaded" in result:
        rows.append(("loaded: Spearman to quiet", result["loaded"]["spearman_to_quiet"], ">=", 0.98))
        rows.append(("loaded: number of warnings", len(result["loaded"]["warnings"]), ">=", 1))
    return [
        {"figure": name, "value": value, "goal": f"{sign} {goal:g}", "met": _met(value, sign, goal)}
        for name, value, sign, goal in rows
    ]


def _by_precision(errors: PrecisionErrors) -> list[tuple[str, float, str, float]]:
    """Targets for the error of each group of a mixed profile, and for the change of the error per border."""
    rows = []
    for group in GROUPS:
        floor = errors.noise_floor.get(group, 0.0)
        rows.append((f"{group}: noise floor", floor, "<=", 0.04))
        rows.append((f"{group}: MAPE", getattr(errors, group).mape, "<=", max(1.5 * floor, 0.015)))
    slope = errors.error_per_border
    rows.append((f"error per border {slope.value:+.4f}: low end", slope.low, "<=", 0.0))
    rows.append((f"error per border {slope.value:+.4f}: high end", slope.high, ">=", 0.0))
    return rows


def _met(value: float, sign: str, goal: float) -> bool:
    return bool(value <= goal if sign == "<=" else value >= goal)


def _show(result: dict[str, Any]) -> None:
    for row in result["targets"]:
        met = "met" if row["met"] else "MISSED"
        print(f"{row['figure']:40} {row['value']:8.4f}   {row['goal']:10} {met}")


if __name__ == "__main__":
    main()
