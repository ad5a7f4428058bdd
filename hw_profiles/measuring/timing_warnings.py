"""Warnings about the measurement of one model."""

from __future__ import annotations

from hw_profiles.measuring.results import AloneFigures

SPREAD = 2.0
"""In an undisturbed measurement, median / latency and 90th percentile / median are below this."""
CLOCKS_DIFFER = 0.05
"""In an undisturbed run, CPU time and wall clock differ by less than this fraction."""
CLOCKS_DIFFER_MS = 0.002
"""Time to read both clocks; smaller differences are ignored."""


def timing_warnings(figures: AloneFigures) -> list[str]:
    """A sentence for each problem; none for an undisturbed measurement."""
    warnings = []
    if figures.throttled:
        warnings.append(
            f"a CPU quota stopped the process in {figures.throttled} periods; latency_ms is the wall-clock "
            f"time of single runs, a continuous load takes longer"
        )
    gap = figures.min_ms - figures.latency_ms
    if figures.clock == "cpu" and gap > max(CLOCKS_DIFFER * figures.min_ms, CLOCKS_DIFFER_MS):
        warnings.append(
            f"latency_ms is CPU time and excludes other processes on the same cores; by the wall clock "
            f"the fastest run took {figures.min_ms:.4g} ms"
        )
    slow_median = figures.median_ms > SPREAD * figures.latency_ms
    if slow_median or figures.p90_ms > SPREAD * figures.median_ms:
        warnings.append(
            f"the runs were interrupted: latency {figures.latency_ms:.4g} ms, median "
            f"{figures.median_ms:.4g} ms, 90th percentile {figures.p90_ms:.4g} ms"
        )
    return warnings
