"""Batches from worker processes, and what becomes of their errors."""

import errno
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import search_spaces
from nas.data.catalog import get
from nas.data.dataset import ImageDataset, Split
from nas.data.image_folder import ImageFiles
from nas.data.loading import Batch, Loader
from nas.recipes.recipe import load
from nas.stopping import STOP_SIGNALS
from nas.training import loaders


def numbered(task: int) -> Batch:
    return torch.full((2, 1, 4, 4), float(task)), torch.full((2,), task)


def failing(task: int) -> Batch:
    if task == 1:
        raise ValueError("cannot read the image b.png")
    if task == 2:
        raise KeyError("label")
    if task == 3:
        raise MemoryError
    return numbered(task)


def signalled(task: int) -> Batch:
    """Sends itself each signal that asks to stop."""
    for number in STOP_SIGNALS:
        os.kill(os.getpid(), number)
    return numbered(os.getpid())


def killed(task: int) -> Batch:
    os.kill(os.getpid(), signal.SIGKILL)
    return numbered(task)


def full(tensor: torch.Tensor) -> None:
    raise RuntimeError(os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("workers", [0, 1])
def test_errors_are_one_line_wherever_they_occur(workers: int) -> None:
    loader = Loader(failing, workers)
    messages = []
    for task in (1, 2, 3):
        with pytest.raises(ValueError, match=r"\w") as caught:
            list(loader([0, task]))
        messages.append(str(caught.value))
    loader.close()
    assert messages == [
        "cannot read the image b.png",
        "the data set raised KeyError: 'label'",
        "not enough memory to load a batch; use a smaller data.batch_size",
    ]


def test_workers_live_through_all_epochs_and_ignore_signals_that_ask_to_stop() -> None:
    loader, before = Loader(signalled, 1), signal.getsignal(signal.SIGCHLD)
    first, second = ([int(y[0]) for _, y in loader([0, 1, 2])] for _ in range(2))
    assert len({*first, *second}) == 1
    assert os.getpid() not in first
    assert signal.getsignal(signal.SIGCHLD) == before  # torch's would interrupt a training step
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) & set(STOP_SIGNALS) == set()
    loader.close()
    with pytest.raises(ProcessLookupError):
        os.kill(first[0], 0)


@pytest.mark.slow  # the loss is noticed after 5 s
def test_killed_worker_is_one_line() -> None:
    loader = Loader(killed, 1)
    with pytest.raises(
        ValueError, match=r"has ended \(.*\); if memory ran out, use fewer data.workers than 1"
    ):
        list(loader([0, 1]))
    loader.close()


def test_default_processes_fit_into_the_cores_and_the_shared_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = load("digits", ["data.batch_size=64"])
    space = search_spaces.get("digits")
    digits = get("digits")
    files = ImageDataset(
        digits.output_names, digits.preprocess, None, {"train": Split(ImageFiles(["a.png"]), np.zeros(1))}
    )
    monkeypatch.setattr(loaders, "usable_cores", lambda: 4)
    # batches of 64 grey images of 24 pixels; each process has two finished ones and one in work, and half of
    # the memory stays free
    for batches, processes in ((6 * 9, 4), (6 * 3, 3), (5, 0)):
        usage = SimpleNamespace(free=batches * 64 * 24**2, total=0)
        monkeypatch.setattr("shutil.disk_usage", lambda path, usage=usage: usage)
        assert loaders.loader_processes(recipe, space, files) == processes
    assert loaders.loader_processes(recipe, space, digits) == 0  # in memory
    assert loaders.loader_processes(recipe.replace({"data.workers": 7}), space, files) == 7
    monkeypatch.setattr("nas.data.loading.SHARED_MEMORY", str(tmp_path / "none"))
    shared = recipe.replace({"compute.devices": 2})  # two training processes share the cores
    assert loaders.loader_processes(shared, space, files) == 2


def test_full_shared_memory_is_one_line_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.Tensor, "share_memory_", full)
    loader = Loader(numbered, 1)
    with pytest.raises(
        ValueError, match=r"more shared memory: a batch takes .*; use data.workers=0 or a smaller"
    ):
        list(loader([0]))
    loader.close()


@pytest.fixture
def spawned() -> Iterator[None]:
    """Processes start as on Windows and macOS: nothing is inherited."""
    method = torch.multiprocessing.get_start_method()
    torch.multiprocessing.set_start_method("spawn", force=True)
    yield
    torch.multiprocessing.set_start_method(method, force=True)


def test_what_cannot_be_pickled_is_refused_where_processes_inherit_nothing(spawned: None) -> None:
    with pytest.raises(
        ValueError, match=r"data.workers=1 needs a data set that can be pickled, .*; use data.work"
    ):
        list(Loader[int](lambda task: numbered(task), 1)([0]))


@pytest.mark.slow
def test_workers_that_inherit_nothing_make_the_same_batches(spawned: None) -> None:
    loader = Loader(numbered, 1)
    np.testing.assert_array_equal([int(y[0]) for _, y in loader([3, 4])], [3, 4])
    loader.close()


def test_processes_that_cannot_be_started_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(loader: object) -> None:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(DataLoader, "__iter__", fail)
    with pytest.raises(ValueError, match=r"cannot start 1 processes .*: Resource temporarily unavail"):
        list(Loader(numbered, 1)([0]))
