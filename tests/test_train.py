import importlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY_YAML
from safetensors.torch import load_file

from nas.recipes.groups import CheckpointsConfig, ComputeConfig, DataConfig, EmaConfig
from nas.recipes.recipe import Recipe
from nas.runs.files import CHECKPOINTS, RECIPE, RUN, SPACE, SUPERNET, TRAINING_LOG
from nas.runs.run_dir import RunDir
from nas.torch_backend.supernet import Supernet
from nas.training.checkpoint import Checkpoints
from nas.training.optimizers import make_optimizer
from nas.training.schedule import LearningRate
from nas.training.train import train
from search_spaces import Space

STEPS_PER_EPOCH = 3  # of 256 of the 897 training images
STEPS = 2 * STEPS_PER_EPOCH


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for the file of the tiny space and for finished runs."""
    path = tmp_path_factory.mktemp("train")
    (path / "tiny.yaml").write_text(TINY_YAML)
    return path


@pytest.fixture(scope="module")
def recipe(folder: Path) -> Recipe:
    """Two epochs; a checkpoint after every step."""
    return Recipe(
        space=str(folder / "tiny.yaml"),
        epochs=2,
        data=DataConfig(dataset="digits", batch_size=256),
        ema=EmaConfig(decay=0.9),
        compute=ComputeConfig(accelerator="cpu"),
        checkpoints=CheckpointsConfig(every_n_minutes=1e-9),
    )


@pytest.fixture(scope="module")
def uninterrupted(recipe: Recipe, folder: Path) -> RunDir:
    return train(recipe, folder / "uninterrupted")


def assert_same_result(run: RunDir, other: RunDir) -> None:
    for name in (SUPERNET, TRAINING_LOG):
        assert run.file(name).read_bytes() == other.file(name).read_bytes()


def test_log_has_a_row_per_epoch_and_the_loss_falls(uninterrupted: RunDir, recipe: Recipe) -> None:
    log = uninterrupted.read_csv(TRAINING_LOG)
    names = [
        f"{kind}_{role}" for role in ("largest", "smallest", "random") for kind in ("loss", "top1", "macs")
    ]
    assert list(log) == ["step", "lr", *names]
    assert log["step"].tolist() == [STEPS_PER_EPOCH, STEPS]
    schedule = LearningRate(recipe, STEPS_PER_EPOCH)
    assert log["lr"].tolist() == [schedule(STEPS_PER_EPOCH - 1), schedule(STEPS - 1)]
    assert (
        log["loss_largest"][1] < log["loss_largest"][0]
    )  # the targets of the other subnets change during training


def test_result_depends_on_the_seed_only(uninterrupted: RunDir, recipe: Recipe, tmp_path: Path) -> None:
    assert_same_result(train(recipe, tmp_path / "again"), uninterrupted)
    other = train(recipe.replace({"seed": 1}), tmp_path / "other")
    assert other.file(SUPERNET).read_bytes() != uninterrupted.file(SUPERNET).read_bytes()


@pytest.mark.parametrize(
    ("at", "number"),
    [
        pytest.param(1, signal.SIGINT, marks=pytest.mark.slow),
        (STEPS_PER_EPOCH, signal.SIGTERM),
        (STEPS_PER_EPOCH + 2, signal.SIGINT),
        (STEPS, signal.SIGTERM),
    ],
)
def test_result_does_not_depend_on_interruptions(
    uninterrupted: RunDir, recipe: Recipe, tmp_path: Path, at: int, number: signal.Signals
) -> None:
    recipe = recipe.replace({"checkpoints.every_n_minutes": 60.0})  # only the signal causes a checkpoint
    handler = signal.getsignal(number)

    def interrupt(what: str, done: int, total: int) -> None:
        if done == at:
            signal.raise_signal(number)

    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path / "run", progress=interrupt)
    assert signal.getsignal(number) == handler
    run = RunDir.open(tmp_path / "run")
    assert [path.name for path in Checkpoints(run).paths()] == [f"step_{at:09d}.pt"]
    seen: list[int] = []
    train(recipe, run.path, resume=True, progress=lambda what, done, total: seen.append(done))
    assert seen == list(range(at + 1, STEPS + 1))
    assert_same_result(run, uninterrupted)


def test_second_signal_stops_at_once(recipe: Recipe, tmp_path: Path) -> None:
    def interrupt(what: str, done: int, total: int) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        pytest.fail("went on")

    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path / "run", progress=interrupt)
    assert not (tmp_path / "run" / CHECKPOINTS).exists()


KILLED = """\
import os, sys
from nas.recipes import recipe
from nas.training.train import train

config, out, step, writes = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
fsync, written = os.fsync, 0

def kill():
    os.kill(os.getpid(), 9)

def killing_fsync(descriptor):
    global written
    written += 1
    kill() if written == writes else fsync(descriptor)

os.fsync = killing_fsync  # a file is then complete under its temporary name
train(recipe.load(config), out, resume=True, progress=lambda what, done, total: done == step and kill())
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_result_does_not_depend_on_kills(uninterrupted: RunDir, recipe: Recipe, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(recipe.to_yaml())
    out = tmp_path / "run"
    never = 10**6
    # between two steps, and in the middle of writing a checkpoint
    for step, writes in ((2, never), (never, 3)):
        arguments = [str(tmp_path / "recipe.yaml"), str(out), str(step), str(writes)]
        killed = subprocess.run(
            [sys.executable, "-c", KILLED, *arguments], env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        assert killed.returncode == -signal.SIGKILL
        assert not (out / SUPERNET).exists()
    newest = Checkpoints(RunDir(out)).paths()[0]
    newest.write_bytes(newest.read_bytes()[:1000])  # the newest checkpoint is truncated
    assert_same_result(train(recipe, out, resume=True), uninterrupted)


def test_resume_does_not_change_a_finished_run(uninterrupted: RunDir, recipe: Recipe) -> None:
    before = uninterrupted.file(SUPERNET).stat()
    train(recipe, uninterrupted.path, resume=True, progress=lambda *_: pytest.fail("trained again"))
    assert uninterrupted.file(SUPERNET).stat() == before
    with pytest.raises(ValueError, match="must be missing or empty; give another --out, or add --resume"):
        train(recipe, uninterrupted.path)


@pytest.mark.parametrize("names", [[], [f".{RUN}.abc"], [RUN, SPACE, f".{RECIPE}.abc"]])
def test_resume_starts_a_new_run_without_an_existing_one(
    recipe: Recipe, tmp_path: Path, names: list[str]
) -> None:
    for name in names:
        (tmp_path / name).write_text("left by a kill")
    run = train(recipe.replace({"epochs": 1}), tmp_path, resume=True)
    assert run.has(SUPERNET)


def test_resume_does_not_change_other_folders_and_files(recipe: Recipe, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    for out in (tmp_path, tmp_path / "thesis.tex"):
        with pytest.raises(ValueError, match="must be missing or empty"):
            train(recipe, out, resume=True)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_resume_with_another_recipe_or_space_is_an_error(
    uninterrupted: RunDir, recipe: Recipe, tmp_path: Path
) -> None:
    changed = recipe.replace({"epochs": 3, "optimizer.lr": 0.2})
    with pytest.raises(ValueError, match=r"cannot resume .*: epochs, optimizer\.lr changed since"):
        train(changed, uninterrupted.path, resume=True)
    space = Path(recipe.space)
    try:
        space.write_text(TINY_YAML.replace("width: [6, 8]", "width: [8]"), encoding="utf-8")
        with pytest.raises(ValueError, match=r"cannot resume .*: the space's YAML file changed"):
            train(recipe, uninterrupted.path, resume=True)
    finally:
        space.write_text(TINY_YAML, encoding="utf-8")


@pytest.mark.parametrize("lr", [1e6, 1e38])
def test_diverged_training_is_an_error_with_a_remedy(recipe: Recipe, tmp_path: Path, lr: float) -> None:
    recipe = recipe.replace({"optimizer.lr": lr, "clipping.kind": "none", "schedule.warmup_epochs": 0.0})
    with pytest.raises(ValueError, match=r"training diverged at step \d+: .* lower optimizer\.lr") as caught:
        train(recipe, tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run" / SUPERNET).exists()


def test_missing_accelerator_is_an_error(recipe: Recipe, tmp_path: Path) -> None:
    absent = "cuda" if not torch.cuda.is_available() else "mps"
    for name in (absent, "abacus"):
        with pytest.raises(ValueError, match=f"cannot train on accelerator '{name}' with 1 dev") as caught:
            train(recipe.replace({"compute.accelerator": name}), tmp_path / "run")
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("key", "value"), [("data.dataset", "digit"), ("space", "digit")])
def test_unknown_names_are_errors_and_create_no_run(
    recipe: Recipe, tmp_path: Path, key: str, value: str
) -> None:
    with pytest.raises(ValueError, match=rf"{key.removeprefix('data.')} must be one of .*got '{value}'"):
        train(recipe.replace({key: value}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_vectors_have_no_weight_decay(tiny: Space, recipe: Recipe) -> None:
    supernet = Supernet(tiny)
    groups = make_optimizer(supernet, recipe).param_groups
    ndims = {recipe.optimizer.weight_decay: {2, 4}, 0.0: {1}}
    for group in groups:
        assert {p.ndim for p in group["params"]} <= ndims[group["weight_decay"]]
    assert sum(len(group["params"]) for group in groups) == len(list(supernet.parameters()))


def test_result_is_the_average_of_the_weights(recipe: Recipe, uninterrupted: RunDir, tmp_path: Path) -> None:
    plain = train(recipe.replace({"ema.decay": 0.0}), tmp_path / "plain")
    last = Checkpoints(uninterrupted).paths()[0]
    state = torch.load(last, weights_only=True)
    averaged, unaveraged = load_file(uninterrupted.file(SUPERNET)), load_file(plain.file(SUPERNET))
    for name, weight in averaged.items():
        assert torch.equal(weight, state["average"][f"module.{name}"])
        assert torch.equal(unaveraged[name], state["supernet"][name])  # the average does not affect training
    initial = Supernet(uninterrupted.space(), recipe.seed).get_parameter("stem.conv.weight")
    for other in (unaveraged["stem.conv.weight"], initial):
        assert not torch.equal(averaged["stem.conv.weight"], other)


SAMPLER = """\
class WorstAgain:
    '''Largest and smallest; then once more whatever had the higher loss in the step before.'''

    def __init__(self):
        self.again = 0

    def subnets(self, step):
        corners = [step.largest, step.smallest]
        return [*corners, corners[self.again]]

    def observe(self, step, subnets, losses):
        self.again = int(losses[1] > losses[0])

    def state_dict(self):
        return {"again": self.again}

    def load_state_dict(self, state):
        self.again = state["again"]


def make(space, recipe):
    return WorstAgain()


def wrong(space, recipe):
    return [space.largest]
"""


@pytest.fixture
def users_sampler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "users_sampler.py").write_text(SAMPLER)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "users_sampler", raising=False)
    importlib.invalidate_caches()
    return "users_sampler"


def test_users_sampler_trains_and_resumes_with_its_state(
    users_sampler: str, recipe: Recipe, tmp_path: Path
) -> None:
    recipe = recipe.replace({"sampler": {"kind": f"{users_sampler}:make"}})
    whole = train(recipe, tmp_path / "whole")
    assert "loss_3" not in whole.read_csv(TRAINING_LOG)

    def interrupt(what: str, done: int, total: int) -> None:
        if done == int(np.random.default_rng(0).integers(1, STEPS)):
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path / "parts", progress=interrupt)
    assert_same_result(train(recipe, tmp_path / "parts", resume=True), whole)


def test_factory_that_returns_no_sampler_is_an_error(
    users_sampler: str, recipe: Recipe, tmp_path: Path
) -> None:
    with pytest.raises(
        ValueError, match=r"sampler 'users_sampler:wrong' must be Sampler, but has no load_state"
    ):
        train(recipe.replace({"sampler": {"kind": "users_sampler:wrong"}}), tmp_path / "run")


def test_accumulated_gradients_are_close_to_those_of_the_whole_batch(recipe: Recipe, tmp_path: Path) -> None:
    once = recipe.replace({"epochs": 1, "optimizer.lr": 1e-3, "sampler.kind": "largest", "ema.decay": 0.0})
    whole = load_file(train(once, tmp_path / "whole").file(SUPERNET))
    run = train(once.replace({"compute.accumulate": 2}), tmp_path / "parts")
    parts, before = load_file(run.file(SUPERNET)), Supernet(run.space(), once.seed).state_dict()
    moved = {name: whole[name] - before[name] for name in whole}
    # only the moments of the batch norms differ: each part has those of half of the images
    difference = sum(((parts[name] - whole[name]) ** 2).sum() for name in whole) ** 0.5
    assert 0 < difference < 0.3 * sum((move**2).sum() for move in moved.values()) ** 0.5
