"""Which of a model's trials tells its latency."""

from hw_profiles.measuring.bundle import HEAVY, HEAVY_BYTES, LIGHT, alone_plan
from hw_profiles.measuring.results import AloneFigures, Results


def results(*latencies_ms: float) -> Results:
    alone = {"net": [AloneFigures.single(ms) for ms in latencies_ms]}
    return Results(
        bundle="b", device={}, seconds=1, trials_ms={"net": list(latencies_ms)}, latency_ms={}, alone=alone
    )


def latency_ms(of: Results, nth: int = 0, passes: int = 1) -> float | None:
    figures = of.alone_latency("net", nth, passes)
    return figures.latency_ms if figures else None


def test_fastest_of_few_trials_counts() -> None:
    assert latency_ms(results(3.0, 1.0, 2.0)) == 1.0


def test_lower_quartile_of_many_trials_counts() -> None:
    assert latency_ms(results(3.0, 1.0, 2.0, 4.0, 5.0)) == 2.0
    assert latency_ms(results(9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0)) == 3.0


def test_passes_take_turns_and_share_no_trial() -> None:
    both = results(3.0, 4.0, 5.0, 1.0, 2.0, 6.0)  # trials 0, 2, 4 and 1, 3, 5
    assert latency_ms(both, 0, passes=2) == 2.0
    assert latency_ms(both, 1, passes=2) == 1.0


def test_a_pass_that_a_tool_left_out() -> None:
    assert latency_ms(results(3.0), 1, passes=2) is None


def test_heavy_networks_are_measured_more_often() -> None:
    assert alone_plan(HEAVY_BYTES) == LIGHT
    assert alone_plan(HEAVY_BYTES + 1) == HEAVY
    assert HEAVY.n_trials > LIGHT.n_trials
