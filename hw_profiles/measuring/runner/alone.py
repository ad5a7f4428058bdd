"""The latency of a model alone in a fresh process: the figure that the toolkit calls `latency_ms`."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from hw_profiles.measuring.runner.estimator import FEW_SESSIONS, LONG_SECONDS, SESSION_SECONDS, robust_ms
from hw_profiles.measuring.runner.model import Model, SessionTiming
from hw_profiles.measuring.runner.speed_probe import STEADY


def time_alone(model: Model, n_sessions: int, best_speed_probe_ms: float = float("inf")) -> dict[str, Any]:
    """Time one model in this process, which should be fresh.

    Args:
        model: what to time.
        n_sessions: number of sessions to open at most.
        best_speed_probe_ms: the fastest speed probe measured on this device so far.

    Raises:
        RunnerError: the model cannot be loaded or run.
    """
    start = time.perf_counter()
    sessions: list[SessionTiming] = []
    while len(sessions) < n_sessions:
        sessions.append(model.time_session(SESSION_SECONDS, best_speed_probe_ms))
        best_speed_probe_ms = min(best_speed_probe_ms, sessions[-1].speed_probe_ms)
        if len(sessions) >= FEW_SESSIONS and time.perf_counter() - start > LONG_SECONDS:
            break
    used = [
        timing for timing in sessions if timing.speed_probe_ms <= STEADY * best_speed_probe_ms
    ] or sessions
    runs = np.concatenate([timing.runs_ms for timing in used])
    throttled = sum(timing.throttled for timing in sessions)
    by_cpu_time = model.clock is not time.perf_counter_ns and not throttled
    fastest_ms = [timing.fastest_ms if by_cpu_time else min(timing.runs_ms) for timing in used]
    return {
        "latency_ms": robust_ms(fastest_ms),
        "clock": "cpu" if by_cpu_time else "wall",
        "min_ms": float(runs.min()),
        "median_ms": float(np.median(runs)),
        "p90_ms": float(np.quantile(runs, 0.9)),
        "runs": len(runs),
        "throttled": throttled,
        "speed_probe_ms": float(np.median([timing.speed_probe_ms for timing in used])),
    }
