"""Parallel evaluation in threads, in processes of this machine, or on a Ray cluster.

Each subnet is evaluated by one worker on one core, so results do not depend on the number and kind of
workers. This module does not import torch, so that worker processes start fast.
"""

from __future__ import annotations

import multiprocessing
import pickle
import signal
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Protocol, cast

from hw_profiles.measuring.runner.process_limits import usable_cores
from search_spaces import Arch

Metrics = dict[str, float]
Measure = Callable[[Arch], Metrics]
"""Evaluates one subnet; it can be pickled, including the supernet and the data set."""
ATTEMPTS = 3
"""Number of worker processes that may die on one subnet before the evaluation fails."""


Results = Generator[tuple[int, Metrics], None, None]
"""Indices of subnets and their metrics; closing the generator cancels pending evaluations."""


class Workers(Protocol):
    """Evaluates many subnets in parallel."""

    def __call__(self, measure: Measure, archs: Sequence[Arch]) -> Results:
        """The index of each of `archs` and its metrics, in the order of completion.

        Raises:
            ValueError: workers could not be started, or one subnet crashes them repeatedly.
        """


class Threads:
    """Threads of this process.

    Args:
        n: number of threads; None: one per core that this process may use.
    """

    def __init__(self, n: int | None = None) -> None:
        self._n = n or usable_cores()

    def __call__(self, measure: Measure, archs: Sequence[Arch]) -> Results:
        """See `Workers`."""
        with ThreadPoolExecutor(self._n) as pool:
            indices = {pool.submit(measure, arch): i for i, arch in enumerate(archs)}
            try:
                for future in as_completed(indices):
                    yield indices[future], future.result()
            finally:
                pool.shutdown(cancel_futures=True)


class Processes:
    """Processes of this machine. They are reused between calls, and replaced if they die.

    A call with another `measure` restarts them, so changed weights need a new `measure` object.

    Args:
        n: number of processes.
    """

    def __init__(self, n: int) -> None:
        self._n = n
        self._measure: Measure | None = None
        self._idle: dict[Connection, BaseProcess] = {}

    def __call__(self, measure: Measure, archs: Sequence[Arch]) -> Results:
        """See `Workers`."""
        if measure != self._measure:  # sent to a process once, when it starts
            self.close()
            self._measure = measure
        waiting = deque((i, 1) for i in range(len(archs)))
        busy: dict[Connection, tuple[BaseProcess, int, int]] = {}
        try:
            while waiting or busy:
                while waiting and len(busy) < self._n:
                    connection, process = self._idle.popitem() if self._idle else self._start(measure)
                    index, attempt = waiting.popleft()
                    busy[connection] = process, index, attempt
                    _send(connection, archs[index])
                for ready in cast(list[Connection], wait(list(busy))):
                    process, index, attempt = busy.pop(ready)
                    try:
                        answer = ready.recv()
                    except (EOFError, OSError):
                        process.join()
                        _check_attempts(archs[index], attempt, process.exitcode)
                        waiting.append((index, attempt + 1))
                        continue
                    self._idle[ready] = process
                    if isinstance(answer, Exception):
                        raise answer
                    yield index, answer
        finally:
            for process, _, _ in busy.values():  # their results are no longer needed
                process.terminate()

    def close(self) -> None:
        """Stop the worker processes."""
        while self._idle:
            connection, process = self._idle.popitem()
            connection.close()  # a worker ends when its connection is closed
            process.join()

    def _start(self, measure: Measure) -> tuple[Connection, BaseProcess]:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, measure), daemon=True)
        try:
            process.start()
        except (pickle.PicklingError, AttributeError, TypeError) as error:  # pickle raises any of them
            raise ValueError(
                f"worker processes need a data set and metrics that can be pickled: {error}; "
                f"use --workers threads"
            ) from error
        theirs.close()
        return ours, process


def _send(connection: Connection, arch: Arch) -> None:
    """Send an arch. If the process has died, the error is raised when its answer is read."""
    try:
        connection.send(arch)
    except BrokenPipeError:
        return


def _serve(connection: Connection, measure: Measure) -> None:
    """Evaluate subnets until the connection is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process handles Ctrl-C
    while True:
        try:
            arch = connection.recv()
        except EOFError:
            return
        try:
            connection.send(measure(arch))
        except Exception as error:  # the parent process raises it
            connection.send(_sendable(error))


def _sendable(error: Exception) -> Exception:
    """The error if it can be pickled, otherwise an error with its text."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # custom error classes may raise anything
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _check_attempts(arch: Arch, attempt: int, exit_code: int | None) -> None:
    if attempt >= ATTEMPTS:
        raise ValueError(
            f"evaluating the subnet {arch.id} crashed {attempt} worker processes, the last one with "
            f"{_reason(exit_code)}; use fewer --workers"
        )


def _reason(exit_code: int | None) -> str:
    """Description of an exit code of `multiprocessing`."""
    if exit_code is None or exit_code >= 0:
        return f"exit code {exit_code}"
    return "signal 9 (out of memory?)" if exit_code == -9 else f"signal {-exit_code}"


class RayTasks:
    """Tasks on a running Ray cluster, or on a new one with the cores of this machine.

    The supernet is in Ray's object store, so it is sent to each node once. If a node is lost, its tasks run
    again on other nodes.
    """

    def __init__(self) -> None:
        self._measure: Measure | None = None

    def __call__(self, measure: Measure, archs: Sequence[Arch]) -> Results:
        """See `Workers`."""
        ray = _ray()
        if measure != self._measure:
            self._measure, self._reference = measure, ray.put(measure)
        task = ray.remote(_measured).options(num_cpus=1, max_retries=ATTEMPTS)
        indices = {task.remote(self._reference, arch): i for i, arch in enumerate(archs)}
        try:
            while indices:
                (ready,), _ = ray.wait(list(indices), num_returns=1)
                index = indices.pop(ready)
                try:
                    metrics = ray.get(ready)
                except ray.exceptions.RayError as error:
                    cause = getattr(error, "cause", error)  # the error of the task, if it ran
                    if not isinstance(cause, ray.exceptions.RayError):
                        raise cause from None
                    raise ValueError(
                        f"Ray could not evaluate the subnet {archs[index].id}: {str(cause).splitlines()[0]}"
                    ) from error
                yield index, metrics
        finally:
            for unfinished in indices:
                ray.cancel(unfinished)


def _measured(measure: Measure, arch: Arch) -> Metrics:
    return measure(arch)


def _ray() -> Any:
    """The module `ray`, connected to a cluster.

    Raises:
        ValueError: Ray is not installed.
    """
    try:
        import ray
    except ImportError:
        raise ValueError(
            "--workers ray needs Ray: install it with `pip install elastic-nas[ray]`, "
            "or give a number of processes"
        ) from None
    if not ray.is_initialized():
        ray.init(log_to_driver=False, include_dashboard=False)
    return ray


WORKERS: Mapping[str, Callable[[], Workers]] = {"threads": Threads, "ray": RayTasks}
"""Kinds of workers by name."""


def workers(text: str) -> Workers:
    """The workers for a value of `--workers`: a name, or a number of processes.

    Raises:
        ValueError: the value is neither a number above 0 nor a name.
    """
    if text.isdecimal() and int(text) > 0:
        return Processes(int(text))
    if text not in WORKERS:
        raise ValueError(
            f"--workers must be a number of processes > 0 or one of {sorted(WORKERS)}, got {text!r}"
        )
    return WORKERS[text]()
