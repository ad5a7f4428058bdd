"""Parallel evaluation in threads, in processes of this machine, or on a Ray cluster.

A worker evaluates a group of subnets at a time. Results do not depend on the number and kind of workers. This
module does not import torch, so that worker processes start fast.
"""

from __future__ import annotations

import multiprocessing
import pickle
import signal
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, NamedTuple, Protocol, cast

from hw_profiles.measuring.runner.process_limits import usable_cores
from search_spaces import Arch

Metrics = dict[str, float]
Outcome = Metrics | ValueError
"""The metrics of a subnet, or the error that its metrics raised."""
Group = Sequence[Arch]
"""Subnets that read each image together."""


class Measure(Protocol):
    """Evaluates a group of subnets; it can be pickled, including the supernet and the data set."""

    def __call__(self, archs: Group, threads: int = 1, worker: int = 0) -> list[Outcome]:
        """The outcome of each subnet.

        Args:
            archs: the subnets.
            threads: number of threads.
            worker: index of the process.
        """


ATTEMPTS = 3
"""Number of worker processes that may die on one subnet before the evaluation fails."""
Results = Generator[tuple[Group, list[Outcome]], None, None]
"""Groups of subnets and their outcomes; closing the generator cancels pending evaluations."""


class Workers(Protocol):
    """Evaluates many subnets in parallel."""

    @property
    def parallel(self) -> int:
        """Number of groups that are evaluated at the same time."""

    def __call__(self, measure: Measure, groups: Sequence[Group]) -> Results:
        """All groups and the outcomes of their subnets, in the order of completion.

        Groups may be divided.

        Raises:
            ValueError: workers could not be started, a subnet crashes them repeatedly, or `measure` raises a
                `ValueError`.
        """


class Threads:
    """Threads of this process, which evaluate one group after the other.

    Args:
        n: number of threads; None: one per core that this process may use.
    """

    parallel = 1

    def __init__(self, n: int | None = None) -> None:
        self._n = n or usable_cores()

    def __call__(self, measure: Measure, groups: Sequence[Group]) -> Results:
        """See `Workers`."""
        for group in groups:
            yield group, measure(group, self._n)


class _Task(NamedTuple):
    """A group, and the number of worker processes that died while they evaluated it."""

    group: Group
    deaths: int = 0


class Processes:
    """Processes of this machine. They are reused between calls, and replaced if they die.

    If a process dies, its group is divided into two, which need less memory each. A call with another
    `measure` restarts the processes, so changed weights need a new `measure` object.

    Args:
        n: number of processes.
    """

    def __init__(self, n: int) -> None:
        self.parallel = n
        self._measure: Measure | None = None
        self._idle: dict[Connection, BaseProcess] = {}
        self._started = 0

    def __call__(self, measure: Measure, groups: Sequence[Group]) -> Results:
        """See `Workers`."""
        if measure != self._measure:  # sent to a process once, when it starts
            self.close()
            self._measure = measure
        waiting = deque(map(_Task, groups))
        busy: dict[Connection, tuple[BaseProcess, _Task]] = {}
        try:
            while waiting or busy:
                while waiting and len(busy) < self.parallel:
                    connection, process = self._idle.popitem() if self._idle else self._start(measure)
                    task = waiting.popleft()
                    busy[connection] = process, task
                    _send(connection, task.group)
                for ready in cast(list[Connection], wait(list(busy))):
                    process, task = busy.pop(ready)
                    try:
                        answer = ready.recv()
                    except (EOFError, OSError):
                        process.join()
                        waiting += _again(task, process.exitcode)
                        continue
                    self._idle[ready] = process
                    if isinstance(answer, Exception):
                        raise answer
                    yield task.group, answer
        finally:
            for process, _ in busy.values():  # their results are no longer needed
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
        worker = self._started % self.parallel
        process = context.Process(target=_serve, args=(theirs, measure, worker), daemon=True)
        try:
            process.start()
        except (pickle.PicklingError, AttributeError, TypeError) as error:  # pickle raises any of them
            raise ValueError(
                f"worker processes need a data set and metrics that can be pickled: {error}; "
                f"use --workers threads"
            ) from error
        theirs.close()
        self._started += 1
        return ours, process


def _send(connection: Connection, group: Group) -> None:
    """Send a group. If the process has died, the error is raised when its answer is read."""
    try:
        connection.send(group)
    except BrokenPipeError:
        return


def _serve(connection: Connection, measure: Measure, worker: int) -> None:
    """Evaluate groups until the connection is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process handles Ctrl-C
    while True:
        try:
            group = connection.recv()
        except EOFError:
            return
        try:
            connection.send(measure(group, worker=worker))
        except Exception as error:  # the parent process raises it
            connection.send(_sendable(error))


def _sendable(error: Exception) -> Exception:
    """The error if it can be pickled, otherwise an error with its text."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # custom error classes may raise anything
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _again(task: _Task, exit_code: int | None) -> list[_Task]:
    """The tasks that replace a task on which a worker process died.

    Raises:
        ValueError: `ATTEMPTS` processes have died on a single subnet.
    """
    group, middle = task.group, len(task.group) // 2
    if middle:
        return [_Task(group[:middle]), _Task(group[middle:])]
    if task.deaths + 1 >= ATTEMPTS:
        raise ValueError(
            f"evaluating the subnet {group[0].id} crashed {ATTEMPTS} worker processes, the last one with "
            f"{_reason(exit_code)}; use fewer --workers"
        )
    return [_Task(group, task.deaths + 1)]


def _reason(exit_code: int | None) -> str:
    """Description of an exit code of `multiprocessing`."""
    if exit_code is None or exit_code >= 0:
        return f"exit code {exit_code}"
    return "signal 9 (out of memory?)" if exit_code == -9 else f"signal {-exit_code}"


class RayTasks:
    """Tasks on a running Ray cluster, or on a new one with the cores of this machine.

    The supernet is in Ray's object store, so it is sent to each node once. If a node is lost, its tasks run
    again on other nodes.

    Args:
        gpus: GPUs of each task; 0: tasks have one core each.
    """

    def __init__(self, gpus: float = 0) -> None:
        self._gpus = gpus
        self._measure: Measure | None = None

    @property
    def parallel(self) -> int:
        """See `Workers`."""
        resources = _ray().cluster_resources()
        limit = resources.get("GPU", 0) / self._gpus if self._gpus else resources.get("CPU", 1)
        return max(1, int(limit))

    def __call__(self, measure: Measure, groups: Sequence[Group]) -> Results:
        """See `Workers`."""
        ray = _ray()
        if measure != self._measure:
            self._measure, self._reference = measure, ray.put(measure)
        task = ray.remote(_measured).options(num_cpus=1, num_gpus=self._gpus, max_retries=ATTEMPTS)
        pending = {task.remote(self._reference, group): group for group in groups}
        try:
            while pending:
                (ready,), _ = ray.wait(list(pending), num_returns=1)
                group = pending.pop(ready)
                try:
                    outcomes = ray.get(ready)
                except ray.exceptions.RayError as error:
                    cause = getattr(error, "cause", error)  # the error of the task, if it ran
                    if not isinstance(cause, ray.exceptions.RayError):
                        raise cause from None
                    raise ValueError(
                        f"Ray could not evaluate the subnets {', '.join(arch.id for arch in group)}: "
                        f"{str(cause).splitlines()[0]}"
                    ) from error
                yield group, outcomes
        finally:
            for unfinished in pending:
                ray.cancel(unfinished)


def _measured(measure: Measure, group: Group) -> list[Outcome]:
    return measure(group)


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


def workers(text: str, accelerator: str = "auto") -> Workers:
    """The workers for a value of `--workers`: a name, or a number of processes.

    Args:
        text: the value.
        accelerator: accelerator of the evaluations; with `cuda`, each task on a Ray cluster has a GPU.

    Raises:
        ValueError: the value is neither a number above 0 nor a name.
    """
    if text.isdecimal() and int(text) > 0:
        return Processes(int(text))
    if text not in WORKERS:
        raise ValueError(
            f"--workers must be a number of processes > 0 or one of {sorted(WORKERS)}, got {text!r}"
        )
    return RayTasks(gpus=1) if (text, accelerator) == ("ray", "cuda") else WORKERS[text]()
