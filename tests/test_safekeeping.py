"""A training that is disturbed, and what is left of it."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY_YAML

from hw_profiles import files
from nas.progress import Progress
from nas.recipes.recipe import MAY_CHANGE, Recipe
from nas.run_dir import SUPERNET, TRAINING_LOG, RunDir
from nas.training.checkpoint import Checkpoints
from nas.training.train import train

STEPS_PER_EPOCH = 7  # of 128 of the 897 training images


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    """One epoch; a checkpoint after every step."""
    (tmp_path / "tiny.yaml").write_text(TINY_YAML)
    return Recipe(
        space=str(tmp_path / "tiny.yaml"),
        dataset="digits",
        epochs=1,
        batch_size=128,
        accelerator="cpu",
        checkpoint_minutes=1e-9,
    )


def stop_at(step: int) -> Progress:
    def interrupt(what: str, done: int, total: int) -> None:
        if done == step:
            signal.raise_signal(signal.SIGTERM)

    return interrupt


def steps(run: RunDir) -> list[int]:
    """Of the checkpoints on disk, newest first."""
    return Checkpoints(run).steps()


@pytest.mark.parametrize("keep", [1, 4])
def test_last_checkpoints_are_kept(recipe: Recipe, tmp_path: Path, keep: int) -> None:
    run = train(recipe.model_copy(update={"keep_checkpoints": keep}), tmp_path / "run")
    assert steps(run) == list(range(STEPS_PER_EPOCH, STEPS_PER_EPOCH - keep, -1))


def test_resume_allows_what_changes_no_result(recipe: Recipe, tmp_path: Path) -> None:
    other = {"workers": 1, "threads": 1, "checkpoint_minutes": 9.0, "keep_checkpoints": 3}
    assert other.keys() <= MAY_CHANGE
    whole = train(recipe, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path / "run", progress=stop_at(3))
    run = train(recipe.model_copy(update=other), tmp_path / "run", resume=True)
    assert run.file(SUPERNET).read_bytes() == whole.file(SUPERNET).read_bytes()


def full_disk(monkeypatch: pytest.MonkeyPatch, first: int, last: int) -> None:
    """The writes `first` to `last` of checkpoints fail."""
    written = 0

    def fail(path: Path, content: bytes) -> None:
        nonlocal written
        written += 1
        if first <= written <= last:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        files.replace_file(path, content)

    monkeypatch.setattr("nas.training.checkpoint.replace_file", fail)


def test_training_goes_on_while_the_disk_is_full(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    full_disk(monkeypatch, 3, 4)
    run = train(recipe, tmp_path / "run")
    kept = run.path / "checkpoints" / "step_000000002.pt"
    assert caplog.messages == [
        f"the state after step {step} could not be saved: No space left on device; "
        f"the last checkpoint, {kept}, is kept"
        for step in (3, 4)
    ]
    assert steps(run) == [7, 6]


def test_stop_on_a_full_disk_says_what_is_kept(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full_disk(monkeypatch, 3, 99)
    with pytest.raises(
        ValueError, match=r"after step 3 could not be saved: No space .*step_000000002\.pt, is"
    ):
        train(recipe, tmp_path / "run", progress=stop_at(3))
    monkeypatch.undo()
    seen: list[int] = []
    train(recipe, tmp_path / "run", resume=True, progress=lambda what, done, total: seen.append(done))
    assert seen == [3, 4, 5, 6, 7]


def test_diverged_training_keeps_the_last_good_checkpoint(recipe: Recipe, tmp_path: Path) -> None:
    wild = recipe.model_copy(update={"lr": 1e30, "clip_norm": 1e30, "checkpoint_minutes": 60.0, "epochs": 3})
    with pytest.raises(ValueError, match=r"training diverged at step \d+: .*; there is no checkpoint yet"):
        train(wild, tmp_path / "none")
    with pytest.raises(
        ValueError, match=r"training diverged at step \d+: .*\.pt, is kept: .* --init /"
    ) as caught:
        train(wild.model_copy(update={"checkpoint_minutes": 1e-9}), tmp_path / "run")
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
@pytest.mark.timeout(600)
def test_killed_ten_times_at_random_ends_as_if_undisturbed(
    recipe: Recipe, tmp_path: Path, rng: np.random.Generator
) -> None:
    recipe = recipe.model_copy(update={"epochs": 29, "ema_decay": 0.9})  # 203 steps
    undisturbed = train(recipe, tmp_path / "undisturbed")
    (tmp_path / "recipe.yaml").write_text(recipe.to_yaml())
    out = tmp_path / "run"
    for _ in range(10):  # each time after 1 to 17 steps and at any moment of the next one or two
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
        assert run.file(name).read_bytes() == undisturbed.file(name).read_bytes()
