"""Where real evaluations run: threads of this process, processes of this machine, or a Ray cluster.

Each subnet is measured by one worker on one core, so that results depend neither on how many workers there
are nor on where they are. Nothing here knows torch: a process starts as fast as what it measures allows.
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
"""Measures one subnet; it can be pickled, with the supernet and its images inside."""
ATTEMPTS = 3
"""Worker processes that may die while they measure one subnet before it is given up."""


Results = Generator[tuple[int, Metrics], None, None]
"""Places of subnets and their metrics; closing it cancels pending measurements."""


class Workers(Protocol):
    """Measures many subnets."""

    def __call__(self, measure: Measure, archs: Sequence[Arch]) -> Results:
        """The place of each of `archs` and its metrics, as soon as it is measured, in any order.

        Raises:
            ValueError: the workers could not be started, or one subnet keeps crashing them.
        """


class Threads:
    """Threads of this process.

    Args:
        n: how many; None: one per core that this process may use.
    """

    def __init__(self, n: int | None = None) -> None:
        self._n = n or usable_cores()

    def __call__(self, measure: Measure, archs: Sequence[Arch]) -> Results:
        """See `Workers`."""
        with ThreadPoolExecutor(self._n) as pool:
            places = {pool.submit(measure, arch): i for i, arch in enumerate(archs)}
            try:
                for future in as_completed(places):
                    yield places[future], future.result()
            finally:
                pool.shutdown(cancel_futures=True)


class Processes:
    """Processes of this machine; they stay until this object goes, and are replaced where they die.

    They are started again where another measurement is asked for. A measurement with changed weights has to
    be another object than before.

    Args:
        n: how many.
    """

    def __init__(self, n: int) -> None:
        self._n = n
        self._measure: Measure | None = None
        self._idle: dict[Connection, BaseProcess] = {}

    def __call__(self, measure: Measure, archs: Sequence[Arch]) -> Results:
        """See `Workers`."""
        if measure != self._measure:  # its supernet is sent to a process once, when that starts
            self.close()
            self._measure = measure
        waiting = deque((i, 1) for i in range(len(archs)))
        busy: dict[Connection, tuple[BaseProcess, int, int]] = {}
        try:
            while waiting or busy:
                while waiting and len(busy) < self._n:
                    connection, process = self._idle.popitem() if self._idle else self._start(measure)
                    place, attempt = waiting.popleft()
                    busy[connection] = process, place, attempt
                    _send(connection, archs[place])
                for ready in cast(list[Connection], wait(list(busy))):
                    process, place, attempt = busy.pop(ready)
                    try:
                        answer = ready.recv()
                    except (EOFError, OSError):
                        process.join()
                        _check_attempts(archs[place], attempt, process.exitcode)
                        waiting.append((place, attempt + 1))
                        continue
                    self._idle[ready] = process
                    if isinstance(answer, Exception):
                        raise answer
                    yield place, answer
        finally:
            for process, _, _ in busy.values():  # stopped half-way: what they do is of no use
                process.terminate()

    def close(self) -> None:
        """End the processes."""
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
        except (pickle.PicklingError, AttributeError, TypeError) as error:  # all of them are raised by pickle
            raise ValueError(
                f"worker processes need a data set and metrics that can be pickled: {error}; "
                f"use --workers threads"
            ) from error
        theirs.close()
        return ours, process


def _send(connection: Connection, arch: Arch) -> None:
    """Send; if the process died meanwhile, reading its answer fails."""
    try:
        connection.send(arch)
    except BrokenPipeError:
        return


def _serve(connection: Connection, measure: Measure) -> None:
    """Measure what comes until the connection is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all processes; the parent handles it
    while True:
        try:
            arch = connection.recv()
        except EOFError:
            return
        try:
            connection.send(measure(arch))
        except Exception as error:  # raised again by the parent
            connection.send(_sendable(error))


def _sendable(error: Exception) -> Exception:
    """The error itself where pickle can copy it, else its text."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # a user's own error class may raise anything here
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _check_attempts(arch: Arch, attempt: int, exit_code: int | None) -> None:
    if attempt >= ATTEMPTS:
        raise ValueError(
            f"evaluating the subnet {arch.id} crashed {attempt} worker processes, the last one with "
            f"{_reason(exit_code)}; use fewer --workers"
        )


def _reason(exit_code: int | None) -> str:
    """What an exit code of `multiprocessing` means."""
    if exit_code is None or exit_code >= 0:
        return f"exit code {exit_code}"
    return "signal 9 (out of memory?)" if exit_code == -9 else f"signal {-exit_code}"


class RayTasks:
    """Tasks of a Ray cluster: the one that runs already, or else one of this machine's cores.

    The supernet goes into Ray's object store, which brings it to each node once. A task whose node is lost
    runs again on another one.
    """

    def __init__(self) -> None:
        self._measure: Measure | None = None

    def __call__(self, measure: Measure, archs: Sequence[Arch]) -> Results:
        """See `Workers`."""
        ray = _ray()
        if measure != self._measure:
            self._measure, self._shipped = measure, ray.put(measure)
        task = ray.remote(_measured).options(num_cpus=1, max_retries=ATTEMPTS)
        places = {task.remote(self._shipped, arch): i for i, arch in enumerate(archs)}
        try:
            while places:
                (ready,), _ = ray.wait(list(places), num_returns=1)
                place = places.pop(ready)
                try:
                    metrics = ray.get(ready)
                except ray.exceptions.RayError as error:
                    cause = getattr(error, "cause", error)  # what the task itself raised, if it ran
                    if not isinstance(cause, ray.exceptions.RayError):
                        raise cause from None
                    raise ValueError(
                        f"Ray could not evaluate the subnet {archs[place].id}: {str(cause).splitlines()[0]}"
                    ) from error
                yield place, metrics
        finally:
            for unfinished in places:
                ray.cancel(unfinished)


def _measured(measure: Measure, arch: Arch) -> Metrics:
    return measure(arch)


def _ray() -> Any:
    """The module, connected.

    Raises:
        ValueError: it is not installed.
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
"""Kinds of workers by name; a number stands for so many processes."""


def workers(text: str) -> Workers:
    """What `--workers` says.

    Raises:
        ValueError: neither a number above 0 nor a name.
    """
    if text.isdecimal() and int(text) > 0:
        return Processes(int(text))
    if text not in WORKERS:
        raise ValueError(
            f"--workers must be a number of processes > 0 or one of {sorted(WORKERS)}, got {text!r}"
        )
    return WORKERS[text]()
