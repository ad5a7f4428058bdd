import contextlib
import errno
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from nas.runs.files import SUPERNET
from nas.runs.records import RunInfo
from nas.runs.run_dir import RunDir
from nas.runs.weights import check_weights, load_supernet, save_supernet
from nas.torch_backend.supernet import Supernet
from nas.training.checkpoint import Checkpoints, load_state
from search_spaces import Arch, Space


@pytest.fixture
def run(tmp_path: Path, tiny: Space) -> RunDir:
    info = RunInfo(created="", versions={}, space="tiny", dataset="digits", output_names=["a", "b", "c"])
    return RunDir.create(tmp_path / "run", info, tiny, "")


@pytest.fixture
def state(tiny: Space) -> dict[str, Any]:
    return {"supernet": dict(Supernet(tiny).state_dict()), "log": [{"epoch": 1, "lr": 0.1 + 0.2}]}


def assert_equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_loaded_supernet_equals_the_saved_one_and_is_in_eval_mode(
    run: RunDir, tiny: Space, tiny_arch: Arch
) -> None:
    supernet = Supernet(tiny, seed=3).train()
    save_supernet(run, supernet.state_dict())
    again = load_supernet(run)
    assert not again.training
    assert_equal(dict(again.state_dict()), dict(supernet.state_dict()))
    x = torch.ones(2, 1, 8, 8)
    assert torch.equal(again(x, tiny_arch), supernet.eval()(x, tiny_arch))


def test_error_of_an_untrained_run_has_the_command_to_continue(run: RunDir) -> None:
    with pytest.raises(ValueError, match=r"not trained yet; continue with `nas train --config .* --resume`"):
        load_supernet(run)


@pytest.mark.parametrize("size", [0, 5, 100, -1])
def test_truncated_supernet_is_an_error(run: RunDir, tiny: Space, size: int) -> None:
    save_supernet(run, Supernet(tiny).state_dict())
    path = run.file(SUPERNET)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ValueError, match=r"supernet\.safetensors is truncated or not a safetensors file"):
        load_supernet(run)


def test_error_of_a_supernet_of_another_space_lists_all_problems(run: RunDir, tiny: Space) -> None:
    weights = {name: tensor.clone() for name, tensor in Supernet(tiny).state_dict().items()}
    del weights["head.classifier.bias"]
    weights["head.classifier.weight"] = torch.zeros(9, 8)
    weights["head.extra"] = torch.zeros(1)
    save_file(weights, run.file(SUPERNET))
    with pytest.raises(
        ValueError, match="does not fit the space of the run: 3 of its tensors differ"
    ) as caught:
        load_supernet(run)
    for problem in (
        "missing head.classifier.bias",
        "unknown head.extra",
        "head.classifier.weight has shape (9, 8) instead of (3, 8)",
    ):
        assert problem in str(caught.value)


def test_error_with_many_problems_is_short() -> None:
    with pytest.raises(ValueError, match=r"x does not fit .*: 100 of its tensors differ") as caught:
        check_weights({str(i): torch.zeros(1) for i in range(100)}, {}, "x")
    assert len(str(caught.value)) < 300


# ---------------------------------------------------------------------- training state


def test_last_checkpoints_remain_and_the_newest_is_loaded(run: RunDir, state: dict[str, Any]) -> None:
    checkpoints = Checkpoints(run, keep=2)
    assert checkpoints.load(state) is None
    for step in (9, 10, 1000):
        checkpoints.save({**state, "log": [step]}, step)
    assert [path.name for path in checkpoints.paths()] == ["step_000001000.pt", "step_000000010.pt"]
    loaded = checkpoints.load(state)
    assert loaded is not None
    assert (loaded["step"], loaded["log"]) == (1000, [1000])
    assert_equal(loaded["supernet"], state["supernet"])


@pytest.mark.parametrize("size", [0, 10, 1000, -100])
def test_previous_checkpoint_is_loaded_if_the_newest_is_truncated(
    run: RunDir, state: dict[str, Any], size: int, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints = Checkpoints(run)
    checkpoints.save(state, 1)
    checkpoints.save(state, 2)
    newest = checkpoints.paths()[0]
    newest.write_bytes(newest.read_bytes()[:size])
    loaded = checkpoints.load(state)
    assert loaded is not None
    assert loaded["step"] == 1
    assert newest.name in caplog.text
    checkpoints.paths()[1].write_bytes(b"")
    with pytest.raises(ValueError, match=r"no checkpoint can be used, .*step_000000002\.pt is truncated or"):
        checkpoints.load(state)


def test_error_of_a_checkpoint_of_another_space_lists_all_problems(
    run: RunDir, state: dict[str, Any]
) -> None:
    checkpoints = Checkpoints(run)
    foreign = dict(state["supernet"])
    del foreign["head.classifier.bias"]
    foreign["stem.conv.weight"] = torch.zeros(2, 3, 3, 3)
    checkpoints.save({**state, "supernet": foreign}, 1)
    with pytest.raises(ValueError, match=r"2 of its tensors differ \(missing head.*; stem\.conv\.weight has"):
        checkpoints.load(state)


def test_other_files_are_errors(run: RunDir, state: dict[str, Any]) -> None:
    checkpoints = Checkpoints(run)
    checkpoints.save({"weights": state["supernet"]}, 1)
    with pytest.raises(ValueError, match=r"is not a training checkpoint: it has no log, supernet"):
        checkpoints.load(state)
    torch.save([1, 2], checkpoints.paths()[0])
    with pytest.raises(ValueError, match="must contain a dict, got list"):
        checkpoints.load(state)


def test_checkpoint_of_another_version_is_an_error(run: RunDir, state: dict[str, Any]) -> None:
    checkpoints = Checkpoints(run)
    checkpoints.save({**state, "schema_version": 2}, 1)
    with pytest.raises(ValueError, match="must have schema_version 1, got 2"):
        checkpoints.load(state)


@pytest.mark.filterwarnings("ignore")  # warnings of torch about damaged files
def test_damaged_files_raise_only_value_errors(tmp_path: Path, rng: np.random.Generator) -> None:
    path = tmp_path / "state.pt"
    torch.save({"a": torch.ones(5, 5), "step": 3, "log": [{"lr": 1.5}]}, path)
    intact = np.frombuffer(path.read_bytes(), dtype=np.uint8)
    for _ in range(1000):
        damaged = intact.copy()
        positions = rng.integers(len(intact), size=rng.integers(1, 20))
        damaged[positions] = rng.integers(256, size=len(positions))
        path.write_bytes(damaged.tobytes())
        with contextlib.suppress(ValueError):
            load_state(path)


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("plain_pickle", [False, True])
def test_checkpoint_with_code_is_an_error_and_the_code_does_not_run(
    run: RunDir, state: dict[str, Any], tmp_path: Path, plain_pickle: bool
) -> None:
    crater = tmp_path / "crater"
    path = run.file("checkpoints") / "step_000000001.pt"
    path.parent.mkdir()
    content = {"schema_version": 1, "step": 1, **state, "bomb": Bomb(str(crater))}
    if plain_pickle:
        path.write_bytes(pickle.dumps({"bomb": content["bomb"]}, protocol=2))
    else:
        torch.save(content, path)
    with pytest.raises(ValueError, match="which could execute code") as caught:
        load_state(path)
    assert "\n" not in str(caught.value)
    assert not crater.exists()
    with pytest.raises(ValueError, match=r"no checkpoint can be used.*which could execute code"):
        Checkpoints(run).load(state)
    assert not crater.exists()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_old_files_are_intact_after_a_failed_write(
    run: RunDir, state: dict[str, Any], monkeypatch: pytest.MonkeyPatch, function: str, number: int
) -> None:
    checkpoints = Checkpoints(run)
    checkpoints.save(state, 1)
    save_supernet(run, state["supernet"])
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}

    def fail(*arguments: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, function, fail)
    with pytest.raises(OSError, match=os.strerror(number)):
        checkpoints.save(state, 2)
    with pytest.raises(OSError, match=os.strerror(number)):
        save_supernet(run, {name: tensor + 1 for name, tensor in state["supernet"].items()})
    assert {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()} == before
