from __future__ import annotations

import json
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np
import pandas as pd
import pytest
import torch

import search_spaces
from search_spaces import Arch, Block, Space
from search_spaces.block_precision import precision_of
from search_spaces.precision_space import with_precision

if TYPE_CHECKING:  # only tests of runs need these, which take seconds to import
    from hw_profiles.device import Device
    from nas.data.dataset import Dataset
    from nas.data.loading import Batch
    from nas.evaluation.trained_run import TrainedRun

TINY_YAML = """\
name: tiny
outputs: 3
channels: 1
resolutions: [6, 8]
divisor: 2
stem: {width: [2, 4], stride: 1, activation: relu}
stages:
  - {width: [2, 4], depth: [1, 2], kernel: [3, 5], expand: [1, 2], stride: 2, activation: relu}
  - {width: [6], depth: [1, 2], expand: [1, 2], per: stage, stride: 2, activation: hard_swish, se: true}
head: {width: [6, 8], activation: hard_swish}
"""

TINY_ARCH = Arch(
    {
        "resolution": 8,
        "stem.width": 4,
        "stages.0.width": 4,
        "stages.0.depth": 2,
        "stages.0.blocks.0.kernel": 3,
        "stages.0.blocks.1.kernel": 5,
        "stages.0.blocks.0.expand": 1,
        "stages.0.blocks.1.expand": 2,
        "stages.1.width": 6,
        "stages.1.depth": 1,
        "stages.1.kernel": 3,
        "stages.1.expand": 2,
        "head.width": 6,
    }
)


SLOW_SECONDS = 900
"""Timeout of tests that are marked `slow`."""


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    """Give slow tests a longer timeout than that of setup.cfg."""
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.timeout(SLOW_SECONDS))


@pytest.fixture(scope="session", autouse=True)
def no_shipped_profiles(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Hide the shipped device profiles."""
    from hw_profiles import store

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "SHIPPED", tmp_path_factory.mktemp("shipped"))
        yield


@pytest.fixture(scope="session")
def tiny() -> Space:
    """A small space with every kind of choice and block: 1,280 subnets, 11 genes."""
    return search_spaces.parse(TINY_YAML)


@pytest.fixture(scope="session")
def tiny_arch() -> Arch:
    """A subnet of `tiny` with an expansion, a shortcut and an SE branch."""
    return TINY_ARCH


FAST_SPACES = ("tiny", "digits", "vit-digits")
LARGE_SPACES = (
    "attentivenas",
    "autoformer-tiny",
    "deit-tiny",
    "elasticvit",
    "nasvit",
    "ofa-mbv3-w1.0",
    "ofa-proxyless-w1.3",
    "ofa-resnet50",
)
"""With `FAST_SPACES` they have every operator of the shipped spaces."""


def space_params(large: Sequence[str]) -> list[Any]:
    """Parameters of a test: fast ones, and large spaces in slow tests."""
    return [*FAST_SPACES, *(pytest.param(name, marks=pytest.mark.slow) for name in large)]


def space_named(name: str) -> Space:
    """A shipped space, or the tiny one."""
    return search_spaces.parse(TINY_YAML) if name == "tiny" else search_spaces.get(name)


@pytest.fixture(scope="session", params=space_params(LARGE_SPACES))
def space(request: pytest.FixtureRequest) -> Space:
    """The tiny space, and shipped spaces with every operator."""
    return space_named(request.param)


@pytest.fixture(
    scope="session", params=space_params([n for n in search_spaces.names() if n not in FAST_SPACES])
)
def any_space(request: pytest.FixtureRequest) -> Space:
    """The tiny space, and all shipped spaces."""
    return space_named(request.param)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Use one torch thread: small networks are slower with several, and sums are not reproducible."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _ctrl_c() -> None:
    """Let SIGINT raise KeyboardInterrupt: background jobs of a shell start with the signal ignored."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _own_home(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Use a temporary folder of the test instead of the user's; it is created when something is stored."""
    monkeypatch.setenv("NAS_HOME", str(tmp_path_factory.getbasetemp() / f"nas_home_{uuid4().hex}"))


def sampled(dataset: Dataset, *arguments: Any, **options: Any) -> Iterator[Batch]:
    """Calibration batches with the classes as strata; arguments as in `calibration_batches`."""
    from nas.data.batches import calibration_batches

    return calibration_batches(dataset, dataset.split("train").targets, *arguments, **options)


def epoch(dataset: Dataset, *arguments: Any, workers: int = 0, **options: Any) -> list[Batch]:
    """The normalized batches of an epoch of training; arguments as in `plan_epoch`."""
    from nas.data.batches import plan_epoch, training_loader
    from nas.data.normalization import Normalization

    normalize = Normalization(dataset.preprocess, torch.device("cpu"))
    loader = training_loader(dataset, workers)
    batches = [(normalize(x), y) for x, y in loader(plan_epoch(dataset, *arguments, **options))]
    loader.close()
    return batches


# ---------------------------------------------------------------------- runs of the tiny space


@pytest.fixture(scope="session")
def _trained_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the tiny space, trained on digits for two epochs."""
    from nas.recipes.groups import ComputeConfig, DataConfig
    from nas.recipes.recipe import Recipe
    from nas.training.train import train

    folder = tmp_path_factory.mktemp("tiny")
    (folder / "tiny.yaml").write_text(TINY_YAML)
    recipe = Recipe(
        space=str(folder / "tiny.yaml"),
        epochs=2,
        data=DataConfig(dataset="digits", batch_size=128),
        compute=ComputeConfig(accelerator="cpu"),
    )
    return train(recipe, folder / "run").path


@pytest.fixture(scope="session")
def _searched_folder(_trained_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run after a short search."""
    from nas.evaluation.trained_run import TrainedRun
    from nas.search.options import SearchOptions
    from nas.search.search_run import search_run

    folder = tmp_path_factory.mktemp("searched") / "run"
    shutil.copytree(_trained_folder, folder)
    trained = TrainedRun.open(folder)
    with pytest.MonkeyPatch.context() as monkeypatch:
        make_search_quick(monkeypatch)
        search_run(trained, make_device(trained.space), SearchOptions(**WHOLE_SEARCH))
    return folder


@pytest.fixture
def trained(_trained_folder: Path, tmp_path: Path) -> TrainedRun:
    """A trained run that the test may write to."""
    from nas.evaluation.trained_run import TrainedRun

    return TrainedRun.open(shutil.copytree(_trained_folder, tmp_path / "trained"))


@pytest.fixture
def searched(_searched_folder: Path, tmp_path: Path) -> TrainedRun:
    """A searched run that the test may write to."""
    from nas.evaluation.trained_run import TrainedRun

    return TrainedRun.open(shutil.copytree(_searched_folder, tmp_path / "searched"))


@pytest.fixture
def device(trained: TrainedRun) -> Device:
    """A device with all blocks of the space of the trained run."""
    return make_device(trained.space)


BUDGET = 20
"""Number of evaluations of a search in tests."""
WHOLE_SEARCH: dict[str, Any] = {
    "predictors": ["ridge"],
    "budget": BUDGET,
    "baseline": "random",
    "noise_ceiling": 5,
}
"""Options of a search with all optional parts."""
MEASURED = 1.02
"""Measured latency / predicted latency with `make_search_quick`."""


def make_device(space: Space, name: str = "desk", batch: int = 1, precision: str = "fp32") -> Device:
    """A device with an artificial latency of each block.

    It is 10 us plus 1 us per 1,000 MACs, half of that in INT8, and 3 us for each conversion between
    precisions. `precision` is fp32 or mixed.
    """
    from hw_profiles.device import Device
    from hw_profiles.latency_models.block_timing import timed_blocks
    from hw_profiles.latency_models.borders import COLUMNS, borders_in
    from hw_profiles.latency_models.prediction_error import compare
    from hw_profiles.latency_models.robust_regression import Affine
    from hw_profiles.measuring.results import Conditions
    from hw_profiles.profile import DeviceProfile, Hardware
    from hw_profiles.run_settings import DeviceKey

    def block_ms(block: Block) -> float:
        factor = 0.5 if precision_of(block) == "int8" else 1.0
        return factor * (0.01 + 1e-6 * block.macs)

    mixed = precision == "mixed"
    timed = timed_blocks(space) | (timed_blocks(space, precision="int8") if mixed else {})
    borders = [
        (str(one.spec), one.source, one.target, one.shared, 0.003)
        for one in (borders_in(space) if mixed else [])
    ]
    own = with_precision(space, "block") if mixed else space
    blocks = pd.DataFrame(
        [
            {
                "block_key": key,
                "latency_ms": block_ms(one.block),
                "trials": 4,
                "spread": 0.01,
            }
            for key, one in timed.items()
        ]
    )
    error = compare(np.array([1.0, 2.1, 3.0]), np.array([1.0, 2.0, 3.0]))
    provider = "CPUExecutionProvider"
    profile = DeviceProfile(
        name=name,
        space=space.name,
        created="2026-01-01T00:00:00+00:00",
        seconds=1.0,
        check_seconds=0.5,
        conditions=Conditions(),
        key=DeviceKey(
            runtime="onnxruntime", version="1", provider=provider, threads=1, batch=batch, precision=precision
        ),
        hardware=Hardware(
            cpu="c", cores=4, machine="arm64", instruction_set="arm", os="Linux", python="3.11", numpy="2"
        ),
        n_blocks=len(blocks),
        n_calibration=12,
        calibration=Affine(slope=1.0, intercept_ms=0.005),
        latency_model="table",
        cross_validated={"table": error},
        held_out=error,
        held_out_macs=error,
        noise_floor=0.01,
        split_half_spearman=1.0,
        sentinel_drift=0.0,
    )
    boundaries = pd.DataFrame({"channels": [8], "size": [24], "conv_ms": [0.1], "overhead_ms": [0.2]})
    ms = [1.0, 2.0, 3.0]
    archs = own.decode(own.sample(np.random.default_rng(0), 3))
    fitted = pd.DataFrame({"arch": [own.smallest.to_json()] * 12, "measured_latency_ms": np.ones(12)})
    held_out = pd.DataFrame(
        {
            "arch_id": [arch.id for arch in archs],
            "arch": [arch.to_json() for arch in archs],
            "predicted_latency_ms": ms,
            "measured_latency_ms": ms,
            "remeasured_latency_ms": ms,
        }
    )
    table = pd.DataFrame(borders, columns=list(COLUMNS)) if mixed else None
    return Device(profile, blocks, boundaries, fitted, held_out, space, borders=table)


def make_search_quick(monkeypatch: pytest.MonkeyPatch, *, measured: bool = True) -> None:
    """Make searches and their reports fast.

    With `measured`, measured latencies are `MEASURED` times the predicted ones.
    """
    from hw_profiles.connections.local import Local
    from nas.devices.measured_latencies import MeasuredLatencies
    from nas.report import final_test
    from nas.search import cost_estimate, predictor_record, search_loop
    from nas.search.algorithms import iterative
    from nas.search.subnet_time import SubnetTime
    from predictors import agreement

    def measure(self: MeasuredLatencies, connection: object, archs: Sequence[Arch], progress: object) -> None:
        latency_ms = MEASURED * self.device.latency(self.space)(self.space.encode(archs))
        self.ms |= dict(zip([arch.id for arch in archs], latency_ms.tolist(), strict=True))

    if measured:
        monkeypatch.setattr(MeasuredLatencies, "measure", measure)
        monkeypatch.setattr(Local, "describe", lambda self: {})
    monkeypatch.setattr(iterative, "INNER_EVALUATIONS", 500)
    monkeypatch.setattr(search_loop, "FEASIBILITY_EVALUATIONS", 500)
    monkeypatch.setattr(final_test, "N_RANDOM", 3)
    monkeypatch.setattr(cost_estimate, "time_subnets", lambda *_: SubnetTime(0.0, 1e-5))
    monkeypatch.setattr(cost_estimate, "time_deployed", lambda *_: SubnetTime(0.0, 1e-5))
    monkeypatch.setattr(predictor_record, "agreement", partial(agreement, resamples=20))


@pytest.fixture
def quick_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """See `make_search_quick`."""
    make_search_quick(monkeypatch)


def make_measuring_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure latencies with few trials, which are not repeated at slow moments."""
    from hw_profiles.measuring import bundle
    from nas.devices import benchmark, measured_latencies, profile_work

    few = {"N_CALIBRATION": 10, "BLOCK_TRIALS": 1, "BOUNDARY_TRIALS": 2, "SENTINEL_TRIALS": 4}
    for constant, n in few.items():
        monkeypatch.setattr(profile_work, constant, n)
    for plan in ("LIGHT", "HEAVY"):
        monkeypatch.setattr(bundle, plan, bundle.TrialPlan(1, 2))
    for module in (benchmark, measured_latencies, profile_work):
        monkeypatch.setattr(module, "BundleContent", partial(bundle.BundleContent, repeats=0.0))


@pytest.fixture
def quick_measuring(monkeypatch: pytest.MonkeyPatch) -> None:
    """See `make_measuring_quick`; for tests that do not need accurate latencies."""
    make_measuring_quick(monkeypatch)


# ---------------------------------------------------------------------- the command line


class Answer:
    """Exit code and output of a call of `nas`."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def json(self) -> Any:
        """The JSON document in the last line."""
        return json.loads(self.out.splitlines()[-1], parse_constant=lambda name: pytest.fail(name))


Nas = Callable[..., "Answer"]


@pytest.fixture
def nas(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Nas:
    """A function that calls the entry point with the arguments of a command line."""
    from nas.cli import main as cli

    def call(*arguments: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["nas", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        captured = capsys.readouterr()
        code = stopped.value.code
        assert code is None or isinstance(code, int)
        return Answer(code or 0, captured.out, captured.err)

    return call


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A recipe of one epoch for the tiny space."""
    (tmp_path / "tiny.yaml").write_text(TINY_YAML)
    path = tmp_path / "recipe.yaml"
    path.write_text(
        f"space: {tmp_path / 'tiny.yaml'}\nepochs: 1\n"
        f"data:\n  dataset: digits\n  batch_size: 256\ncompute:\n  accelerator: cpu\n"
    )
    return path


def assert_refused(answer: Answer, message: str) -> None:
    assert answer.code == 2
    assert answer.err.count("\n") == 1
    assert answer.err.startswith("error: ")
    assert message in answer.err
    assert answer.out == ""
