"""Which subnets of a front are deployed."""

import numpy as np
import pandas as pd
import pytest

from nas.search.select import knee, minimised_columns, select, spread

FRONT = pd.DataFrame(
    {
        "arch_id": ["a", "b", "c", "d", "e", "f", "g"],
        # an L: c is nearest to the ideal point (0.1, 1) in either's scale
        "cross_entropy": [0.9, 0.5, 0.15, 0.14, 0.13, 0.12, 0.1],
        "latency_ms": [1.0, 1.5, 2.0, 4.0, 6.0, 8.0, 10.0],
        "measured_latency_ms": [1.0, 1.5, 2.0, 4.0, 6.0, 8.0, 10.0],
        "keeps_limits": [True] * 7,
    }
)
POINTS = FRONT[["cross_entropy", "latency_ms"]].to_numpy()


def ids(how: str, front: pd.DataFrame = FRONT) -> list[str]:
    points = front[["cross_entropy", "latency_ms"]].to_numpy()
    return list(select(front, points, how)["arch_id"])


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("all", ["a", "b", "c", "d", "e", "f", "g"]),
        ("knee", ["c"]),
        ("first", ["g"]),  # smallest cross-entropy
        ("last", ["a"]),  # smallest latency
        ("spread", ["a", "c", "d", "e", "g"]),  # of 7 in order: 0, 1.5, 3, 4.5, 6, halves to even
        ("f", ["f"]),
        ("f,b", ["b", "f"]),
    ],
)
def test_ways_to_pick(how: str, expected: list[str]) -> None:
    assert ids(how) == expected


def test_scale_of_an_objective_does_not_move_the_knee() -> None:
    assert knee(POINTS) == knee(POINTS * [1000.0, 1e-6]) == [2]


def test_one_subnet_is_every_pick() -> None:
    for how in ("all", "knee", "first", "last", "spread"):
        assert ids(how, FRONT.iloc[:1]) == ["a"]


@pytest.mark.parametrize("n", range(1, 10))
def test_spread_holds_both_ends_and_nothing_twice(n: int) -> None:
    points = np.random.default_rng(n).random((n, 2))
    chosen = spread(points, 5)
    assert len(set(chosen)) == len(chosen) == min(n, 5)
    assert {int(points[:, 1].argmin()), int(points[:, 1].argmax())} <= set(chosen)
    assert (np.diff(points[chosen, 1]) > 0).all()


def test_what_misses_a_limit_is_picked_by_its_id_alone() -> None:
    front = FRONT.assign(keeps_limits=FRONT["measured_latency_ms"] > 1.5)
    assert ids("all", front) == ["c", "d", "e", "f", "g"]
    assert ids("last", front) == ["c"]
    assert ids("spread", front)[0] == "c"
    assert ids("a", front) == ["a"]
    with pytest.raises(ValueError, match="no measured subnet of the front is within the limits"):
        ids("knee", FRONT.assign(keeps_limits=False))


@pytest.mark.parametrize("how", ["kneee", "a,z", "", "a,"])
def test_unknown_ways_and_ids_say_what_there_is(how: str) -> None:
    with pytest.raises(ValueError, match=r"--pick must be one of .*'knee'.* or ids of the front such as a"):
        ids(how)


def test_columns_are_minimised_and_latency_is_as_measured_where_it_was() -> None:
    front = FRONT.iloc[:2].assign(accuracy=[0.7, 0.8], measured_latency_ms=[1.25, np.nan])
    front["latency_ms@desk"] = front["latency_ms"]
    found = minimised_columns(front, ["accuracy", "latency_ms", "latency_ms@desk"], ["accuracy"])
    np.testing.assert_array_equal(found, [[-0.7, 1.25, 1.25], [-0.8, 1.5, 1.5]])
