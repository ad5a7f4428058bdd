"""Checkpoints of trainings that are interrupted or fail."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY_YAML
from torch import nn

from hw_profiles import atomic_write as files
from nas import tasks
from nas.progress import Progress
from nas.recipes.groups import CheckpointsConfig, ComputeConfig, DataConfig
from nas.recipes.recipe import Recipe
from nas.runs.files import SUPERNET, TRAINING_LOG
from nas.runs.run_dir import RunDir
from nas.samplers.base import FixedRule, Step
from nas.training.accelerator import make_fabric
from nas.training.checkpoint import Checkpoints
from nas.training.data_order import ShuffledOrder
from nas.training.loaders import TrainingBatch
from nas.training.log import TrainingLog
from nas.training.reductions import average_gradients
from nas.training.state import TrainingState
from nas.training.step import TrainingStep
from nas.training.train import train
from search_spaces import Arch, Space

STEPS_PER_EPOCH = 7  # of 128 of the 897 training images


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    """One epoch; a checkpoint after every step."""
    (tmp_path / "tiny.yaml").write_text(TINY_YAML)
    return Recipe(
        space=str(tmp_path / "tiny.yaml"),
        epochs=1,
        data=DataConfig(dataset="digits", batch_size=128),
        compute=ComputeConfig(accelerator="cpu"),
        checkpoints=CheckpointsConfig(every_n_minutes=1e-9),
    )


def stop_at(step: int) -> Progress:
    def interrupt(what: str, done: int, total: int) -> None:
        if done == step:
            signal.raise_signal(signal.SIGTERM)

    return interrupt


def steps(run: RunDir) -> list[int]:
    """Steps of the checkpoints on disk, newest first."""
    return Checkpoints(run).steps()


@pytest.mark.parametrize("keep", [1, 4])
def test_last_checkpoints_remain(recipe: Recipe, tmp_path: Path, keep: int) -> None:
    run = train(recipe.replace({"checkpoints.keep_last": keep}), tmp_path / "run")
    assert steps(run) == list(range(STEPS_PER_EPOCH, STEPS_PER_EPOCH - keep, -1))


def test_resume_allows_keys_that_do_not_affect_the_result(recipe: Recipe, tmp_path: Path) -> None:
    other = {
        "data.workers": 1,
        "compute.threads": 1,
        "checkpoints.every_n_minutes": 9.0,
        "checkpoints.keep_last": 3,
    }
    whole = train(recipe, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path / "run", progress=stop_at(3))
    run = train(recipe.replace(other), tmp_path / "run", resume=True)
    assert run.file(SUPERNET).read_bytes() == whole.file(SUPERNET).read_bytes()


def full_disk(monkeypatch: pytest.MonkeyPatch, first: int, last: int) -> None:
    """Make the writes `first` to `last` of checkpoints fail."""
    written = 0

    def fail(path: Path, content: bytes) -> None:
        nonlocal written
        written += 1
        if first <= written <= last:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        files.replace_file(path, content)

    monkeypatch.setattr("nas.training.checkpoint.replace_file", fail)


def test_training_continues_while_the_disk_is_full(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    full_disk(monkeypatch, 3, 4)
    run = train(recipe, tmp_path / "run")
    checkpoint = run.path / "checkpoints" / "step_000000002.pt"
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warnings == [
        f"the state after step {step} could not be saved: No space left on device; "
        f"the last checkpoint is {checkpoint}"
        for step in (3, 4)
    ]
    assert steps(run) == [7, 6]


def test_error_of_a_full_disk_at_a_stop_names_the_last_checkpoint(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full_disk(monkeypatch, 3, 99)
    with pytest.raises(
        ValueError, match=r"after step 3 could not be saved: No space .* is .*step_000000002\.pt"
    ):
        train(recipe, tmp_path / "run", progress=stop_at(3))
    monkeypatch.undo()
    seen: list[int] = []
    train(recipe, tmp_path / "run", resume=True, progress=lambda what, done, total: seen.append(done))
    assert seen == [3, 4, 5, 6, 7]


def test_last_checkpoint_remains_when_training_diverges(recipe: Recipe, tmp_path: Path) -> None:
    wild = recipe.replace(
        {"optimizer.lr": 1e30, "clipping.kind": "none", "checkpoints.every_n_minutes": 60.0, "epochs": 3}
    )
    with pytest.raises(ValueError, match=r"training diverged at step \d+: .*; there is no checkpoint yet"):
        train(wild, tmp_path / "none")
    with pytest.raises(
        ValueError,
        match=r"training diverged at step \d+: .*\.pt, which a new run can start from with --init /",
    ) as caught:
        train(wild.replace({"checkpoints.every_n_minutes": 1e-9}), tmp_path / "run")
    run = RunDir.open(tmp_path / "run")
    assert str(Checkpoints(run).paths()[0]) in str(caught.value)
    assert f"at step {steps(run)[0]}:" in str(caught.value)  # the step after the checkpoint, counted from 0


KILLED = """\
import os, signal, sys, threading
from nas.recipes import recipe
from nas.training.train import train

config, out, steps, seconds = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
seen = 0


def progress(what, done, total):
    global seen
    seen += 1
    if seen == steps:
        threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGKILL)).start()


train(recipe.load(config), out, resume=True, progress=progress)
"""


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.slow
def test_result_does_not_depend_on_kills_at_random_times(
    recipe: Recipe, tmp_path: Path, rng: np.random.Generator
) -> None:
    recipe = recipe.replace({"epochs": 10, "ema.decay": 0.9})  # 70 steps
    uninterrupted = train(recipe, tmp_path / "uninterrupted")
    (tmp_path / "recipe.yaml").write_text(recipe.to_yaml())
    out = tmp_path / "run"
    for _ in range(2):  # each time after 1 to 17 steps, at a random time in the next one or two
        arguments = [
            str(tmp_path / "recipe.yaml"),
            str(out),
            str(rng.integers(1, 18)),
            str(rng.random() / 20),
        ]
        killed = subprocess.run(
            [sys.executable, "-c", KILLED, *arguments], env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        assert killed.returncode == -signal.SIGKILL
    run = train(recipe, out, resume=True)
    for name in (SUPERNET, TRAINING_LOG):
        assert run.file(name).read_bytes() == uninterrupted.file(name).read_bytes()


def fail_at(step: int, error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the computation of the gradients fail in step `step`, counted from 0."""
    calls = 0

    def fail(parameters: Iterable[nn.Parameter], values: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == step + 1:
            raise error
        return average_gradients(parameters, values)

    monkeypatch.setattr("nas.training.step.average_gradients", fail)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        pytest.param(
            ConnectionError("another process of the run has ended"),
            "another process of the run has ended; the",
            marks=pytest.mark.slow,
        ),
        (
            MemoryError(),
            r"not enough memory .* smaller data.batch_size.*; the last .*000004\.pt; continue with --resume",
        ),
        pytest.param(
            ValueError("cannot read the image b.png"),
            r"read the image b\.png; the last .*with --resume",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_result_does_not_depend_on_a_failed_step(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, message: str
) -> None:
    # the bank of the sampler depends on its previous one, so a failed step must not change its state
    recipe = recipe.replace({"sampler.kind": "complexity_banks", "checkpoints.every_n_minutes": 60.0})
    whole = train(recipe, tmp_path / "whole")
    fail_at(4, error, monkeypatch)
    with pytest.raises(ValueError, match=message):
        train(recipe, tmp_path / "run")
    monkeypatch.undo()
    assert steps(RunDir.open(tmp_path / "run")) == [4]
    run = train(recipe, tmp_path / "run", resume=True)
    assert run.file(SUPERNET).read_bytes() == whole.file(SUPERNET).read_bytes()


def test_other_errors_are_raised_unchanged_after_saving(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fail_at(2, KeyError("bug"), monkeypatch)
    with pytest.raises(KeyError, match="bug"):
        train(recipe.replace({"checkpoints.every_n_minutes": 60.0}), tmp_path / "run")
    assert steps(RunDir.open(tmp_path / "run")) == [2]
    assert caplog.messages[-1].startswith("training stopped after step 2; the last checkpoint is ")


class Raises(FixedRule):
    """A user's sampler whose method `method` fails in the third step."""

    def __init__(self, method: str, result: object = None) -> None:
        self.method, self.result, self.n = method, result, 0

    def subnets(self, step: Step) -> list[Arch]:
        self.n += 1
        if self.n == 3 and self.method == "subnets":
            raise RuntimeError("no\nidea")
        return [self.result or step.largest]  # type: ignore[list-item]

    def observe(self, step: Step, subnets: Sequence[Arch], losses: Sequence[float]) -> None:
        if self.n == 3 and self.method == "observe":
            raise RuntimeError("no\nidea")


@pytest.mark.parametrize(
    ("sampler", "saved", "message"),
    [
        (Raises("subnets"), [2], "sampler 'sandwich' raised RuntimeError: no idea; the last checkpoint"),
        (Raises("observe"), [3], "sampler 'sandwich' raised RuntimeError: no idea; the last checkpoint"),
        (
            Raises("", "big"),
            [],
            r"must choose one Arch or more .*, got \['big'\] at step 0; there",
        ),
    ],
)
def test_error_of_a_users_sampler_names_the_sampler(
    recipe: Recipe, tmp_path: Path, sampler: Raises, saved: list[int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        train(recipe.replace({"checkpoints.every_n_minutes": 60.0}), tmp_path / "run", sampler=sampler)
    assert steps(RunDir.open(tmp_path / "run")) == saved


def test_too_small_batches_and_wrong_precisions_are_errors(recipe: Recipe, tmp_path: Path) -> None:
    for changes, message in (
        (
            {"data.batch_size": 128, "compute.accumulate": 128},
            "batch_size must be at least 256, 2 images .* 1 processes x 128",
        ),
        (
            {"data.batch_size": 2048, "compute.accumulate": 512},
            "at least 1024 images, .* got 897 in the training split",
        ),
        (
            {"compute.precision": "16-mixed"},
            "16-mixed needs the accelerator cuda, got cpu; use precision bf",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            train(recipe.replace(changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_parts_of_a_batch_are_weighted_by_their_number_of_images(tiny: Space) -> None:
    recipe = Recipe(
        space="tiny",
        epochs=1,
        data=DataConfig(dataset="digits", batch_size=12),
        compute=ComputeConfig(accumulate=4, accelerator="cpu"),
    )
    fabric, log = make_fabric(recipe.compute, 12), TrainingLog(tiny, 1, "top1")
    state = TrainingState.start(recipe, tiny, fabric, Raises(""), ShuffledOrder(), log)
    task = tasks.get("classification")
    step = TrainingStep(fabric, state, recipe, task, lambda x, y: lambda logits: (logits[:, 0] * y).mean(), 1)
    weight = state.supernet.get_parameter("stem.conv.weight")
    step._outputs = lambda arch, x, dropout=None: weight.sum() * x.flatten(1)  # type: ignore[method-assign]
    x, y = torch.arange(1.0, 11.0), torch.arange(10.0) ** 2
    batch = TrainingBatch(x.view(10, 1, 1, 1).expand(10, 1, 8, 8), y, None, total=10)
    step._compute_gradients([tiny.largest], batch, None)
    assert weight.grad is not None
    # the mean over all 10 images, of which the 4 parts have 3, 3, 2 and 2
    torch.testing.assert_close(weight.grad, torch.full_like(weight, float((x * y).mean())))
