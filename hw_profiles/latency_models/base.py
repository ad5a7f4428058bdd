"""The interface of latency models. The latency of a network is a sum over its blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, Self

import numpy as np
from numpy.typing import ArrayLike

from hw_profiles.latency_models.prediction_error import Latencies
from hw_profiles.latency_models.robust_regression import fit_linear
from search_spaces import Block

Network = Sequence[Block]
"""The blocks of a subnet, as returned by `Space.blocks`."""
BlockValue = Callable[[Block], float]

TABLE = "table"
"""Name of the latency model that is a table of measured blocks."""


class LatencyEstimator(Protocol):
    """A latency model that is fitted to whole networks, in the style of scikit-learn."""

    intercept_ms: float
    """Latency of a network without its blocks."""

    def block_ms(self, block: Block) -> float:
        """Latency of a block inside a network, ms."""

    def fit(self, X: Sequence[Network], y: ArrayLike) -> Self:  # noqa: N803  scikit-learn's names
        """Fit to networks and their latencies in ms, shape (n,).

        Raises:
            ValueError: there are no networks, or a latency is not above 0.
        """

    def predict(self, X: Sequence[Network]) -> Latencies:  # noqa: N803
        """Latency in ms of each network, shape (n,)."""


class Additive:
    """Base class that predicts the sum of `intercept_ms` and `block_ms`."""

    intercept_ms: float

    def block_ms(self, block: Block) -> float:
        """Latency of a block inside a network, ms."""
        raise NotImplementedError

    def predict(self, X: Sequence[Network]) -> Latencies:  # noqa: N803
        """See `LatencyEstimator`."""
        return self.intercept_ms + sums(X, self.block_ms)


class Linear(Additive):
    """A linear model of features that are sums over the blocks of a network, such as MACs.

    Args:
        values: functions, each of which returns one feature of a block.
    """

    def __init__(self, *values: BlockValue) -> None:
        self.values = values

    def fit(self, X: Sequence[Network], y: ArrayLike) -> Self:  # noqa: N803
        """See `LatencyEstimator`."""
        x = np.stack([sums(X, value) for value in self.values], axis=1)
        self._slopes, self.intercept_ms = fit_linear(x, check_latencies(X, y))
        return self

    def block_ms(self, block: Block) -> float:
        """See `Additive`."""
        return float(
            sum(slope * value(block) for slope, value in zip(self._slopes, self.values, strict=True))
        )


def sums(networks: Iterable[Network], value: BlockValue) -> Latencies:
    """The sum of `value` over the blocks of each network, shape (n,)."""
    return np.array([sum(map(value, network)) for network in networks], dtype=np.float64)


def check_latencies(networks: Sequence[Network], latency_ms: ArrayLike) -> Latencies:
    """The latencies as an array, shape (n,).

    Raises:
        ValueError: there is none, or not one for each network, or one is not above 0.
    """
    values = np.asarray(latency_ms, dtype=np.float64)
    if values.shape != (len(networks),) or len(values) == 0:
        raise ValueError(
            f"a latency model must be fitted to at least one subnet, with one latency for each, "
            f"got {values.size} latencies of {len(networks)} subnets"
        )
    if not (np.isfinite(values) & (values > 0)).all():
        raise ValueError(f"measured latencies must be numbers > 0 ms, got {values.min()}")
    return values
