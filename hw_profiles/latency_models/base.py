"""What predicts latencies: a table, or a fit to whole networks. Each is a sum over blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, Self

import numpy as np
from numpy.typing import ArrayLike

from hw_profiles.latency_models.prediction_error import Latencies
from hw_profiles.latency_models.robust_regression import fit_linear
from search_spaces import Block, BlockTable, SlotTable, Space

Network = Sequence[Block]
"""The blocks of a subnet, as `Space.blocks` gives them."""
BlockValue = Callable[[Block], float]

TABLE = "table"
"""Name of the model that is a table of measured blocks."""


class LatencyModel(Protocol):
    """Latency of subnets on one device."""

    intercept_ms: float
    """What every network takes beside its blocks."""

    def block_ms(self, block: Block) -> float:
        """What a block adds to a network, ms."""

    def of(self, space: Space) -> SlotTable:
        """The model laid out for a space: a callable from genomes (n, n_genes) to ms (n,)."""


class LatencyEstimator(LatencyModel, Protocol):
    """A latency model that is fitted to whole networks, in scikit-learn's manner."""

    def fit(self, X: Sequence[Network], y: ArrayLike) -> Self:  # noqa: N803  scikit-learn's names
        """Fit to networks and the latency in ms of each, shape (n,).

        Raises:
            ValueError: no networks, or a latency that is not above 0.
        """

    def predict(self, X: Sequence[Network]) -> Latencies:  # noqa: N803
        """Latency in ms of each network, shape (n,)."""


class Additive:
    """What follows from `intercept_ms` and `block_ms`: a network's latency is their sum."""

    intercept_ms: float

    def block_ms(self, block: Block) -> float:
        """What a block adds to a network, ms."""
        raise NotImplementedError

    def predict(self, X: Sequence[Network]) -> Latencies:  # noqa: N803
        """See `LatencyEstimator`."""
        return self.intercept_ms + sums(X, self.block_ms)

    def of(self, space: Space) -> SlotTable:
        """See `LatencyModel`."""
        return BlockTable(space, self.block_ms, self.intercept_ms)


class Linear(Additive):
    """Linear in numbers of a network that are sums over its blocks, such as MACs or a table's ms.

    Args:
        values: those numbers of one block.
    """

    def __init__(self, *values: BlockValue) -> None:
        self.values = values

    def fit(self, X: Sequence[Network], y: ArrayLike) -> Self:  # noqa: N803
        """See `LatencyEstimator`."""
        x = np.stack([sums(X, value) for value in self.values], axis=1)
        self._slopes, self.intercept_ms = fit_linear(x, checked(X, y))
        return self

    def block_ms(self, block: Block) -> float:
        """See `Additive`."""
        return float(
            sum(slope * value(block) for slope, value in zip(self._slopes, self.values, strict=True))
        )


def sums(networks: Iterable[Network], value: BlockValue) -> Latencies:
    """The sum of `value` over the blocks of each network, shape (n,)."""
    return np.array([sum(map(value, network)) for network in networks], dtype=np.float64)


def checked(networks: Sequence[Network], latency_ms: ArrayLike) -> Latencies:
    """The latencies as an array, shape (n,).

    Raises:
        ValueError: none, not one for each network, or one is not above 0.
    """
    values = np.asarray(latency_ms, dtype=np.float64)
    if values.shape != (len(networks),) or len(values) == 0:
        raise ValueError(
            f"a latency fit needs the latency of each of the measured subnets, one at least, "
            f"got {values.size} latencies of {len(networks)} subnets"
        )
    if not (np.isfinite(values) & (values > 0)).all():
        raise ValueError(f"measured latencies must be numbers > 0 ms, got {values.min()}")
    return values
