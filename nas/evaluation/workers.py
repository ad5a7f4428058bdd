"""Where real evaluations run: threads of this process, processes of this machine, or a Ray cluster.

Each subnet is measured by one worker on one core, so that results depend neither on how many workers there
are nor on where they are. Nothing here knows torch: a process starts as fast as what it measures allows.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Protocol

from search_spaces import Arch

Metrics = dict[str, float]
Measure = Callable[[Arch], Metrics]
"""Measures one subnet; it can be pickled, with the supernet and its images inside."""
ATTEMPTS = 3
"""Workers that one subnet may end before it is given up."""


Results = Generator[tuple[int, Metrics], None, None]
"""Places of subnets and their metrics; closed early, what is not measured yet never will be."""


class Workers(Protocol):
    """Measures many subnets."""

    def __call__(self, measure: Measure, archs: Sequence[Arch]) -> Results:
        """The place of each of `archs` and its metrics, as soon as it is measured, in any order.

        Raises:
            ValueError: the workers cannot be had, or a subnet keeps ending them.
        """


class Threads:
    """Threads of this process.

    Args:
        n: how many; None: one per core.
    """

    def __init__(self, n: int | None = None) -> None:
        self._n = n or os.cpu_count() or 1

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

    Args:
        n: how many.
    """

    def __init__(self, n: int) -> None:
        self._n = n
        self._measure: Measure | None = None
        self._idle: dict[Connection, BaseProcess] = {}

    def __call__(self, measure: Measure, archs: Sequence[Arch]) -> Results:
        """See `Workers`."""
        if measure is not self._measure:  # its supernet is shipped to a process once, when that starts
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
                for ready in wait(list(busy)):
                    assert isinstance(ready, Connection)
                    process, place, attempt = busy.pop(ready)
                    try:
                        answer = ready.recv()
                    except (EOFError, ConnectionResetError):
                        _check_attempts(archs[place], attempt)
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
            connection.close()  # a worker ends when nobody can ask it any more
            process.join()

    def _start(self, measure: Measure) -> tuple[Connection, BaseProcess]:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, measure), daemon=True)
        process.start()
        theirs.close()
        return ours, process


def _send(connection: Connection, arch: Arch) -> None:
    """Send; if the process died meanwhile, reading its answer will tell."""
    try:
        connection.send(arch)
    except BrokenPipeError:
        return


def _serve(connection: Connection, measure: Measure) -> None:
    """Measure what comes until nobody asks any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all; the parent decides what it means
    while True:
        try:
            arch = connection.recv()
        except EOFError:
            return
        try:
            connection.send(measure(arch))
        except Exception as error:  # handed on to who asked
            connection.send(error)


def _check_attempts(arch: Arch, attempt: int) -> None:
    if attempt >= ATTEMPTS:
        raise ValueError(
            f"evaluating the subnet {arch.id} ended {attempt} worker processes, for want of memory perhaps; "
            f"give fewer --workers"
        )


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
        if measure is not self._measure:
            self._measure, self._shipped = measure, ray.put(measure)
        task = ray.remote(_measured).options(num_cpus=1, max_retries=ATTEMPTS)
        places = {task.remote(self._shipped, arch): i for i, arch in enumerate(archs)}
        while places:
            ready, _ = ray.wait(list(places), num_returns=1)
            yield places.pop(ready[0]), ray.get(ready[0])


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
