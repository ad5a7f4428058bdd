"""Batches made on demand in this process, or prefetched by worker processes."""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from nas.stopping import STOP_SIGNALS

Batch = tuple[Tensor, Tensor]
"""Images (n, channels, resolution, resolution) and targets (n, ...).

Training images have pixel values 0..255 as uint8 or float32; all others are normalized float32."""
Plan = TypeVar("Plan")

SHARED_MEMORY = "/dev/shm"
PREFETCHED = 2
"""Finished batches of each worker process that wait in shared memory."""


class Loader(Generic[Plan]):
    """Makes batches in order.

    Worker processes live until `close`, so the data set is sent to them once. They ignore signals that stop a
    program, because the main process ends them.

    Args:
        make: makes the batch for a plan.
        workers: number of worker processes; 0: batches are made in this process on demand.
        pin_memory: return batches in pinned memory, for asynchronous copies to a GPU.
    """

    def __init__(self, make: Callable[[Plan], Batch], workers: int = 0, *, pin_memory: bool = False) -> None:
        self.make = make
        self.workers = workers
        self.busy_seconds = 0.0
        """Working time of the processes on the batches returned so far, in seconds, summed over processes."""
        self.plans: _Plans[Plan] = _Plans()
        self.loader: DataLoader[Any] | None = None
        self.iterator: Any = None
        """The iterator of the `DataLoader`, which owns the worker processes."""
        if workers:
            self.loader = DataLoader(
                _Batches(make),  # type: ignore[arg-type]  # any object with items
                sampler=self.plans,
                batch_size=None,
                collate_fn=_unchanged,  # the default would turn tuples into lists
                num_workers=workers,
                prefetch_factor=PREFETCHED,
                persistent_workers=True,
                worker_init_fn=_ignore_stopping,
                pin_memory=pin_memory,
                generator=torch.Generator(),  # the default would use the global one
            )

    def __call__(self, plans: Iterable[Plan]) -> Iterator[Batch]:
        """The batches of `plans`.

        Args:
            plans: read ahead while the worker processes prefetch.

        Raises:
            ValueError: an image cannot be read, the data set raises an error, or the worker processes fail.
        """
        if self.loader is None:
            for plan in plans:
                yield self._timed(_make_batch(self.make, plan))
            return
        self.plans.plans = plans
        self.iterator = self._start(self.loader)
        while True:
            try:
                batch = next(self.iterator)
            except StopIteration:
                return
            except (RuntimeError, OSError, EOFError) as error:  # if a worker died
                raise ValueError(
                    f"a process that loads images has ended ({_first_line(error):.150}); if memory ran out, "
                    f"use fewer data.workers than {self.workers}, or data.workers=0"
                ) from None
            if isinstance(batch, _Failure):
                raise ValueError(batch.reason)
            yield self._timed(batch)

    def _timed(self, batch: _TimedBatch) -> Batch:
        x, y, seconds = batch
        self.busy_seconds += seconds
        return x, y

    def close(self) -> None:
        """End the worker processes."""
        if self.iterator is not None:
            self.iterator._shutdown_workers()  # torch has no public method
            for process in self.iterator._workers:
                process.kill()

    def _start(self, loader: DataLoader[Any]) -> Iterator[Any]:
        try:
            with _stopping_blocked(), _child_handler_restored(), warnings.catch_warnings():
                warnings.simplefilter(
                    "ignore", UserWarning
                )  # about objects that cannot be pickled, see below
                return iter(loader)
        except OSError as error:
            raise ValueError(
                f"cannot start {self.workers} processes that load images: {error.strerror or error}; "
                f"use fewer data.workers, or data.workers=0"
            ) from None
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise ValueError(
                f"data.workers={self.workers} needs a data set that can be pickled, without lambdas or local "
                f"functions: {_first_line(error):.150}; use data.workers=0"
            ) from None


_TimedBatch = tuple[Tensor, Tensor, float]
"""A batch, and the seconds that it took."""


@dataclass
class _Plans(Generic[Plan]):
    """The plans of the batches to load, as the `DataLoader` needs them."""

    plans: Iterable[Plan] = field(default_factory=list)

    def __iter__(self) -> Iterator[Plan]:
        return iter(self.plans)


@dataclass(frozen=True, slots=True)
class _Failure:
    """The reason why a worker process could not make a batch.

    The message of an exception would include the traceback of the worker.
    """

    reason: str


@dataclass(frozen=True, slots=True)
class _Batches(Generic[Plan]):
    """Batches by plan, in shared memory, as the `DataLoader` needs them."""

    make: Callable[[Plan], Batch]

    def __getitem__(self, plan: Plan) -> _TimedBatch | _Failure:
        try:
            x, y, seconds = _make_batch(self.make, plan)
        except ValueError as error:
            return _Failure(str(error))
        try:  # to shared memory here; the queue would do it in a thread, where errors are lost
            return x.share_memory_(), y.share_memory_(), seconds
        except (RuntimeError, OSError):
            return _Failure(_shared_memory_message(x))


@contextmanager
def errors_in_one_line() -> Iterator[None]:
    """Convert any error of a data set to a `ValueError` in one line.

    Raises:
        ValueError: the data set raised an error, or there is not enough memory.
    """
    try:
        yield
    except ValueError:
        raise
    except MemoryError:
        raise ValueError("not enough memory to load a batch; use a smaller data.batch_size") from None
    except Exception as error:  # a custom data set may raise anything
        raise ValueError(f"the data set raised {type(error).__name__}: {_first_line(error)}") from error


def _make_batch(make: Callable[[Plan], Batch], plan: Plan) -> _TimedBatch:
    begin = time.perf_counter()
    with errors_in_one_line():
        x, y = make(plan)
    return x, y, time.perf_counter() - begin


def _shared_memory_message(x: Tensor) -> str:
    sizes = f"a batch takes {x.nbytes / 2**20:.1f} MB"
    if os.path.isdir(SHARED_MEMORY):
        usage = shutil.disk_usage(SHARED_MEMORY)
        sizes += f", {SHARED_MEMORY} has {usage.free / 2**20:.1f} of {usage.total / 2**20:.1f} MB free"
    return (
        f"processes that load images need more shared memory: {sizes}; use data.workers=0 or a smaller "
        f"data.batch_size, or give the container more (docker run --shm-size=8g)"
    )


def fitting_workers(batch_bytes: int) -> int:
    """Number of worker processes whose batches fit into half of the free shared memory.

    Args:
        batch_bytes: size of a batch.
    """
    if not os.path.isdir(SHARED_MEMORY):  # other systems do not limit it
        return sys.maxsize
    return shutil.disk_usage(SHARED_MEMORY).free // (2 * (PREFETCHED + 1) * batch_bytes)


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]


def _unchanged(batch: Any) -> Any:
    return batch


def _ignore_stopping(worker: int) -> None:
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def _stopping_blocked() -> Iterator[None]:
    """Block stop signals; processes that are started inside the block never receive them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _child_handler_restored() -> Iterator[None]:
    """Remove the handler by which torch raises an error as soon as a worker ends.

    It would interrupt a training step. The end of a worker is also detected when the next batch is read.
    """
    usable = hasattr(signal, "SIGCHLD") and threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGCHLD) if usable else None
    try:
        yield
    finally:
        if before is not None:
            signal.signal(signal.SIGCHLD, before)
