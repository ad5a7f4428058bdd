"""How a latency is estimated from repeated runs.

The memory addresses of a session's buffers change the latency by 0.5-1 % for the lifetime of the session, so
a process opens several sessions and takes the fastest run of each. Other load can only increase the time, so
the estimate is a low quantile over the sessions. Noise floor (MAPE between passes of fresh processes over the
same 24 random subnets, 0.02-2 ms) on 2 cores at a load of 4, 12 sessions of 15 ms (digits) and 20 ms (cifar):
  within a session  min   min       min     p10       median    median
  over sessions     min   quartile  median  quartile  quartile  median
  digits space      0.50  0.46      0.47    0.47      0.50      0.52 %
  cifar space       0.36  0.41      0.67    0.43      1.30      2.45 %
The estimate is the quartile over sessions of the minima. Its noise floors are 0.47 and 0.49 % with sessions
of 10 ms, and 0.57 and 0.43 % with 4 sessions.

If one thread does all the work, its CPU time is measured, because it excludes the time of other processes.
For such short runs, the CPU time is no better than the wall clock (0.47 and 0.41 %). At 224 pixels (8 subnets
of 10-200 ms, load 10), 12 sessions of 0.05, 0.1, 0.25, 0.5 s give 2.7, 2.6, 2.5, 2.5 %, and the wall clock
gives 15-18 %.

The job sets how many sessions a process opens.
"""

from __future__ import annotations

import numpy as np

QUANTILE = 0.25
SESSION_SECONDS = 0.01
BLOCK_SESSION_SECONDS = 0.004  # of small graphs in the runner's process; 0.01 gave the table the same errors
MIN_RUNS = 10
# Slow models: a session ends after LONG_SESSION_SECONDS if it has FEW_RUNS, and a process opens no further
# session after LONG_SECONDS if it has FEW_SESSIONS.
LONG_SESSION_SECONDS, FEW_RUNS = 0.1, 3
LONG_SECONDS, FEW_SESSIONS = 0.7, 4


def robust_ms(fastest_ms: list[float]) -> float:
    """The estimate of the latency from the fastest run of each session: the lower quartile."""
    return float(np.quantile(fastest_ms, QUANTILE))


def fastest_run_ms(cpu_ms: list[float], wall_ms: list[float]) -> float:
    """CPU time of the fastest run of a session.

    In a virtual machine the system subtracts the time of other guests from the clock of the thread, sometimes
    more than they used. The clock then hardly moves during a run, or not at all. Such runs are ignored: a run
    that is more than twice as fast as the median is not plausible. If the clock did not move in most runs,
    the wall clock is used instead.

    Args:
        cpu_ms: CPU time of each run.
        wall_ms: wall-clock time of each run.
    """
    median = float(np.median(cpu_ms))
    return min(ms for ms in cpu_ms if ms >= median / 2) if median > 0 else min(wall_ms)


def enough_runs(runs: int, elapsed: float, seconds: float) -> bool:
    """Whether a session of about `seconds` may end after `runs` runs in `elapsed` seconds."""
    if elapsed < LONG_SESSION_SECONDS:
        return runs >= MIN_RUNS and elapsed >= seconds
    return runs >= FEW_RUNS


def drift(times_ms: list[float]) -> float:
    """The change of one latency over time: the range of the medians of four quarters / the median."""
    medians = [np.median(quarter) for quarter in np.array_split(times_ms, 4)]
    return float((max(medians) - min(medians)) / np.median(times_ms))


def split_half(times_ms: list[list[float]]) -> float:
    """Spearman's rank correlation of the latencies of even trials with those of odd trials."""
    halves = [[robust_ms(times[start::2]) for times in times_ms if len(times) > 1] for start in (0, 1)]
    ranks = [np.argsort(np.argsort(half)) for half in halves]
    return float(np.asarray(np.corrcoef(ranks))[0, 1])
