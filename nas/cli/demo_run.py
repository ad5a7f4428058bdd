"""The whole workflow with one recipe; the result is the same as with the separate commands."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from hw_profiles.profile import DeviceProfile
from hw_profiles.store import ProfileStore
from nas.devices.benchmark import BenchmarkRow, benchmark
from nas.devices.profiling import profile_device
from nas.evaluation.trained_run import TrainedRun
from nas.export.export import Exported
from nas.export.export_run import export_subnets
from nas.progress import Progress, silent
from nas.recipes import recipe as recipes
from nas.recipes.recipe import Recipe
from nas.report.data import FigureOfMerit
from nas.report.report_run import report_run
from nas.runs.files import FRONT, PROFILES, TEST
from nas.runs.lock import locked
from nas.search.options import RANDOM, SearchOptions
from nas.search.search_loop import is_evaluated_completely
from nas.search.search_run import search_run
from nas.training.train import train
from search_spaces import Space

DEVICE = "this-machine"
PICK = "spread"
EVALUATIONS = 200
"""Subnets that the search evaluates; the random baseline evaluates as many."""
NOISE_CEILING = 20
"""Subnets that are evaluated again for the ceiling of the predictor's rank correlation."""
HELD_OUT = 24
"""Subnets on which the latency table is evaluated: half of the default, to save time."""

TARGETS: Mapping[str, Mapping[str, str]] = {
    "digits": {
        "test top-1, largest subnet": ">= 97",
        "test top-1, median of 100 random subnets": ">= 95.5",
        "test top-1, smallest subnet": ">= 92",
        "predictor, Kendall tau in cross-validation": ">= 0.65",
        "test hypervolume, search / random search": "> 1.02",
    },
    "fashion-mnist": {
        "test top-1, largest subnet": ">= 93.5",
        "predictor, Kendall tau in cross-validation": ">= 0.85",
    },
}
"""Targets of figures by their names, for the shipped recipe of each data set."""


@dataclass(frozen=True)
class DemoResult:
    """Results of the demo."""

    subnets: pd.DataFrame
    """The exported subnets: `arch_id`, accuracy, predicted and measured latency, file."""
    figures: list[FigureOfMerit]
    report: Path
    seconds: float


def run_demo(
    out: str | Path,
    *,
    recipe: str | Path = "digits",
    data_root: str | Path | None = None,
    seed: int = 0,
    resume: bool = False,
    progress: Progress = silent,
) -> DemoResult:
    """Train, profile this machine, search, export, benchmark and report.

    Args:
        out: the run directory to make.
        recipe: training recipe, a name or a YAML file; its seed is ignored.
        data_root: folder of the images; None: the folder of the recipe.
        seed: seed of training, profiling and search.
        resume: continue a demo that was interrupted.
        progress: called after each unit of work.

    Raises:
        ValueError: as `nas.training.train.train`, or `out` contains other files.
    """
    changes: dict[str, object] = {"seed": seed}
    if data_root is not None:
        changes["data.root"] = str(data_root)
    loaded = recipes.load(recipe).replace(changes)
    with locked(out, create=True):
        return _run_demo(out, loaded, seed, resume=resume, progress=progress)


def _run_demo(out: str | Path, recipe: Recipe, seed: int, *, resume: bool, progress: Progress) -> DemoResult:
    begin = time.perf_counter()
    run = train(recipe, out, resume=resume, progress=progress)
    trained = TrainedRun.open(run.path)
    store = ProfileStore(run.file(PROFILES))
    if DEVICE not in store.names():
        profile_device(trained.space, DEVICE, store, n_held_out=HELD_OUT, seed=seed, progress=progress)
    options = SearchOptions(
        seed=seed, budget=EVALUATIONS, baseline=RANDOM, noise_ceiling=_noise_ceiling(trained.space)
    )
    search_run(trained, store.load(DEVICE), options, progress=progress)
    exported = export_subnets(trained, PICK, progress=progress)
    rows = benchmark([file.path for file in exported], progress=progress)
    extra: list[FigureOfMerit] = [
        ("elastic against extracted, largest difference", _elastic_difference(trained), "", "<= 1e-6"),
        ("torch against ONNX, largest difference", max(f.max_difference for f in exported), "", "<= 1e-5"),
        ("nas --help", _help_seconds(), "s", "<= 0.5"),
    ]
    wanted = targets(recipe.data.dataset, store.load(DEVICE).profile)
    report, figures = report_run(trained, extra=extra, targets=wanted, progress=progress)
    return DemoResult(_subnets(trained, exported, rows), figures, report, time.perf_counter() - begin)


def _noise_ceiling(space: Space) -> int:
    """Number of subnets to evaluate again; 0 if evaluations are deterministic or nothing is predicted."""
    predicted = not is_evaluated_completely(space, EVALUATIONS)
    return NOISE_CEILING if space.has_batch_norm and predicted else 0


def targets(dataset: str, profile: DeviceProfile) -> dict[str, str]:
    """Targets of the demo's figures on a data set; targets of latency depend on the noise of the machine."""
    floor = 100 * (profile.noise_floor or 0.0)
    return {
        **TARGETS.get(dataset, {}),
        "latency table, Kendall tau": ">= 0.95",
        "latency table, MAPE": f"<= {max(3 * floor, 3):.2f}",
        "latency, MAPE of measuring again": "machine too noisy" if profile.too_noisy else "<= 4",
    }


def _subnets(
    trained: TrainedRun, exported: Sequence[Exported], benchmarked: Sequence[BenchmarkRow]
) -> pd.DataFrame:
    front = trained.run.search().read_csv(FRONT).set_index("arch_id")
    test = trained.run.search().read_csv(TEST).drop_duplicates("arch_id", keep="last").set_index("arch_id")
    metric = trained.task.headline.metric
    return pd.DataFrame(
        [
            {
                "arch_id": file.arch.id,
                f"validation_{metric}": front.loc[file.arch.id, metric],
                f"test_{metric}": test.loc[file.arch.id, metric],
                "predicted_latency_ms": front.loc[file.arch.id, "latency_ms"],
                "measured_latency_ms": row.latency_ms,
                "macs": trained.space.macs(file.arch),
                "params": trained.space.params(file.arch),
                "file": str(file.path),
            }
            for file, row in zip(exported, benchmarked, strict=True)
        ]
    )


@torch.no_grad()
def _elastic_difference(trained: TrainedRun, n: int = 10) -> float:
    """Largest difference between the logits of the supernet and of `n` extracted subnets.

    The smallest and the largest subnet are among them.
    """
    space = trained.space
    archs = [space.smallest, space.largest]
    archs += space.decode(space.sample(np.random.default_rng(0), n - 2))
    generator = torch.Generator().manual_seed(0)
    differences = []
    for arch in archs:
        shape = (4, space.config.channels, *[space.image_size(arch)] * 2)
        images = torch.randn(shape, generator=generator)
        elastic, extracted = trained.supernet(images, arch), trained.supernet.extract(arch)(images)
        differences.append(float((elastic - extracted).abs().max()))
    return max(differences)


def _help_seconds() -> float:
    """Seconds that `nas --help` takes, the fastest of three calls."""
    command = [sys.executable, "-c", "from nas.cli.main import main; main()", "--help"]
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        times.append(time.perf_counter() - begin)
    return min(times)
