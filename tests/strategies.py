"""Hypothesis strategies for property tests."""

import math
from typing import Any

import hypothesis.strategies as st

from search_spaces import Space
from search_spaces.families.mbconv import MBConvConfig, MBConvSpace


def options(*values: float) -> st.SearchStrategy[list[float]]:
    return st.sets(st.sampled_from(values), min_size=1, max_size=2).map(sorted)


STAGES = st.fixed_dictionaries(
    {
        "width": options(2, 4),
        "depth": st.sampled_from([[1], [2], [1, 2], [1, 3]]),
        "kernel": options(3, 5),
        "expand": options(1, 1.5, 3),
        "per": st.sampled_from(["block", "stage"]),
        "stride": st.sampled_from([1, 2]),
        "se": st.booleans(),
        "shortcut": st.sampled_from(["none", "identity", "pool", "projection"]),
    }
)

HEADS: st.SearchStrategy[dict[str, Any]] = st.sampled_from([{}, {"pool_expand": 2.0}, {"pool_width": 12}])


@st.composite
def small_spaces(draw: st.DrawFn) -> Space:
    """Spaces of at most 3,000 raw genomes."""
    config: dict[str, Any] = {
        "name": "random",
        "outputs": 3,
        "channels": draw(st.sampled_from([1, 3])),
        "resolutions": draw(options(4, 7)),
        "input_size": draw(st.sampled_from([None, 5])),
        "kernel_transform": draw(st.booleans()),
        "divisor": 2,
        "stem": {"width": draw(options(2, 4)), "stride": draw(st.sampled_from([1, 2]))},
        "stages": draw(st.lists(STAGES, min_size=1, max_size=2)),
        "head": {"width": draw(options(4, 6)), **draw(HEADS)},
    }
    space = MBConvSpace(MBConvConfig.model_validate(config))
    return space if math.prod(space.n_options.tolist()) <= 3000 else draw(small_spaces())
