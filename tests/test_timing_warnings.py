"""What is said about the figures of one model."""

import pytest

from hw_profiles.measuring.results import AloneFigures
from hw_profiles.measuring.timing_warnings import timing_warnings

STEADY = AloneFigures(latency_ms=10.0, min_ms=10.1, median_ms=10.5, p90_ms=12.0, runs=100, clock="cpu")


@pytest.mark.parametrize(
    ("change", "warning"),
    [
        ({}, None),
        ({"throttled": 3}, "a CPU quota stopped the process in 3 periods"),
        ({"min_ms": 30.5, "median_ms": 30.6, "p90_ms": 31.0}, "the fastest run took 30.5 ms"),
        ({"p90_ms": 282.0}, "the runs were interrupted"),
        ({"median_ms": 20.1, "p90_ms": 21.0}, "the runs were interrupted"),
        # a run of microseconds: reading both clocks takes 1 or 2 of them
        ({"latency_ms": 0.008, "min_ms": 0.0095, "median_ms": 0.01, "p90_ms": 0.011}, None),
        # by the wall clock, the quartile of the sessions' fastest runs is never below the fastest run
        ({"clock": "wall", "latency_ms": 10.2}, None),
    ],
)
def test_warnings_about_timings(change: dict[str, object], warning: str | None) -> None:
    found = timing_warnings(STEADY.model_copy(update=change))
    if warning is None:
        assert found == []
    else:
        assert any(warning in text for text in found)


def test_no_warnings_for_tools_that_give_one_figure() -> None:
    assert timing_warnings(AloneFigures.single(2.0)) == []
