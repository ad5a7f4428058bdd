"""What makes the figures of one measured model doubtful."""

from __future__ import annotations

from hw_profiles.measuring.results import AloneFigures

SPREAD = 2.0
"""Of an undisturbed measurement, the median is less than this many times the latency, and the 90th percentile
less than this many times the median."""
CLOCKS_DIFFER = 0.05
"""CPU time and wall clock of an undisturbed run differ less, as a fraction."""
CLOCKS_DIFFER_MS = 0.002
"""Or less than this: what it takes to read both clocks."""


def timing_warnings(figures: AloneFigures) -> list[str]:
    """One sentence for each reason to doubt the figures; none for an undisturbed measurement."""
    found = []
    if figures.throttled:
        found.append(
            f"a CPU quota stopped the process in {figures.throttled} periods; latency_ms is the wall-clock "
            f"time of single runs, a steady load takes longer"
        )
    gap = figures.min_ms - figures.latency_ms
    if figures.clock == "cpu" and gap > max(CLOCKS_DIFFER * figures.min_ms, CLOCKS_DIFFER_MS):
        found.append(
            f"latency_ms is CPU time and leaves out other processes on the same cores; by the wall clock "
            f"the fastest run took {figures.min_ms:.4g} ms"
        )
    slow_median = figures.median_ms > SPREAD * figures.latency_ms
    if slow_median or figures.p90_ms > SPREAD * figures.median_ms:
        found.append(
            f"the runs were interrupted: latency {figures.latency_ms:.4g} ms, median "
            f"{figures.median_ms:.4g} ms, 90th percentile {figures.p90_ms:.4g} ms"
        )
    return found
