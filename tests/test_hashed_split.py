from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from nas.data.hashed_split import hashed_split

NAMES = [f"class{i % 4}/{i}.png" for i in range(2_000)]
LABELS = np.arange(2_000) % 4


def parts_of(names: list[str], labels: NDArray[np.int64], seed: int = 0) -> list[set[str]]:
    return [{names[i] for i in part} for part in hashed_split(names, labels, [0.1, 0.1], seed)]


def test_parts_have_about_their_share_of_each_class() -> None:
    parts = hashed_split(NAMES, LABELS, [0.1, 0.1], 0)
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(2_000))
    for part, share in zip(parts, (0.1, 0.1, 0.8), strict=True):
        assert np.array_equal(part, np.sort(part))
        # of 500 images of a class; four standard deviations of a binomial
        np.testing.assert_allclose(
            np.bincount(LABELS[part]), 500 * share, atol=4 * np.sqrt(500 * share * (1 - share))
        )
    assert parts_of(NAMES, LABELS, seed=1) != parts_of(NAMES, LABELS)


def test_one_file_more_or_less_moves_no_other() -> None:
    before = parts_of(NAMES, LABELS)
    for i in range(0, 2_000, 100):
        fewer = parts_of(NAMES[:i] + NAMES[i + 1 :], np.delete(LABELS, i))
        assert fewer == [part - {NAMES[i]} for part in before]
        more = parts_of([f"class0/new{i}.png", *NAMES], np.insert(LABELS, 0, 0))
        assert [part - {f"class0/new{i}.png"} for part in more] == before


@pytest.mark.parametrize("n", [3, 4, 5, 10])
def test_every_part_of_a_small_class_has_a_file(n: int) -> None:
    for seed in range(30):
        parts = hashed_split(NAMES[:n], np.zeros(n, dtype=np.int64), [0.1, 0.1], seed)
        assert sorted(np.concatenate(parts).tolist()) == list(range(n))
        assert min(map(len, parts)) >= 1
