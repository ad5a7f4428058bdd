"""Detects when the processor is slow.

Another guest of a shared machine on the same core, or a frequency governor, makes everything take 1.4 to 2.1
times as long for milliseconds to minutes, CPU time included. A fixed piece of work, the speed probe, detects
this: on a rented server with two speeds, networks took 1.01 to 1.03 times their best latency while the probe
was within STEADY of its own best time, and 1.3 to 2.1 times otherwise. Therefore a session waits for a steady
moment, on any core. A trial at a slow moment is repeated later, as often as the job allows; if most models
had no steady trial, all trials are used. With busy neighbours two thirds of the time, the noise floor fell
from 16-23 % to 0.7 %.
"""

from __future__ import annotations

import itertools
import threading
import time

import numpy as np

from hw_profiles.measuring.runner.affinity import CORES, cores_changed, pin_thread
from hw_profiles.measuring.runner.errors import RunnerError
from hw_profiles.measuring.runner.estimator import fastest_run_ms

STEADY = 1.2
PATIENCE_SECONDS = 0.1
PROBE_LOOPS, PROBE_REPEATS = 1000, 3
PROBE_VALUES, PROBE_ROUNDS = 32768, 12  # with all cores at once
PROBE_SECONDS = 10.0  # at most

THREAD_CLOCK_IS_FINE = time.get_clock_info("thread_time").resolution <= 1e-6  # 16 ms on Windows
PROBE_CLOCK = time.thread_time_ns if THREAD_CLOCK_IS_FINE else time.perf_counter_ns


def speed_probe_ms(threads: int) -> float:
    """CPU time of a fixed piece of work of tens of microseconds, the fastest of a few runs.

    Args:
        threads: number of threads of the network; if it uses every core, the probe runs on all cores at once.
    """
    if 1 < threads >= len(CORES) > 0:
        return _all_cores_probe_ms()
    watch = _Stopwatch()
    for _ in range(PROBE_REPEATS):
        watch.start()
        total = 0
        for i in range(PROBE_LOOPS):
            total += i * i
        watch.stop()
    return watch.fastest_ms()


class _Stopwatch:
    """Times a piece of work several times in this thread."""

    def __init__(self) -> None:
        self._busy_ms: list[float] = []
        self._wall_ms: list[float] = []

    def start(self) -> None:
        self._wall, self._busy = time.perf_counter_ns(), PROBE_CLOCK()

    def stop(self) -> None:
        self._busy_ms.append((PROBE_CLOCK() - self._busy) / 1e6)
        self._wall_ms.append((time.perf_counter_ns() - self._wall) / 1e6)

    def fastest_ms(self) -> float:
        return fastest_run_ms(self._busy_ms, self._wall_ms)


def _all_cores_probe_ms() -> float:
    """The time of the slowest core while all cores work at once on data that another core has just written.

    The cores of a virtual machine may or may not share one physical core, or a cache, from one moment to the
    next. A probe on one core does not detect this, and networks take 1.5 to 2.0 times as long.
    """
    shared = [np.linspace(0, 1, PROBE_VALUES, dtype=np.float32) for _ in CORES]
    barrier = threading.Barrier(len(CORES), timeout=PROBE_SECONDS)
    fastest: list[float] = []

    def work(i: int, core: int) -> None:
        try:
            pin_thread({core})
            result = np.empty_like(shared[i])
            watch = _Stopwatch()
            for r in range(PROBE_ROUNDS):
                values = shared[(i + r) % len(shared)]
                barrier.wait()
                watch.start()
                np.negative(values, out=values)
                np.exp(values, out=result)
                watch.stop()
        except (RunnerError, threading.BrokenBarrierError):
            barrier.abort()  # otherwise the other threads would wait for ever
        else:
            fastest.append(watch.fastest_ms())

    threads = [threading.Thread(target=work, args=pair) for pair in enumerate(CORES)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if len(fastest) < len(CORES):
        raise cores_changed()
    return max(fastest)


def wait_until_steady(best_speed_probe_ms: float, threads: int) -> float:
    """Wait for a steady moment, at most `PATIENCE_SECONDS`; returns the last speed probe.

    Args:
        best_speed_probe_ms: the fastest speed probe measured on this device so far.
        threads: number of threads of the network; a single one tries each core and stays on a steady one.

    Raises:
        RunnerError: this process can no longer use its cores.
    """
    cores: list[set[int]] = [{core} for core in sorted(CORES)] if threads == 1 and CORES else [set()]
    end = time.perf_counter() + PATIENCE_SECONDS
    for core in itertools.cycle(cores):
        pin_thread(core)
        probe_ms = speed_probe_ms(threads)
        if probe_ms <= STEADY * best_speed_probe_ms or time.perf_counter() > end:
            break
    return probe_ms
