"""Which latency model to trust on a device: the one with the smallest error on networks it has not seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hw_profiles.latency_models.base import TABLE as TABLE
from hw_profiles.latency_models.base import BlockValue, LatencyEstimator, Linear, Network, checked
from hw_profiles.latency_models.layerwise import LayerFit
from hw_profiles.latency_models.prediction_error import ErrorRecord, Latencies, compare
from search_spaces import Block

FOLDS = 5
MIN_NETWORKS = 10
"""Of fewer, cross-validation says nothing."""
LAYERS, TABLE_AND_LAYERS = "layers", "table and layers"
TABLE_AND_WEIGHTS = "table and weights"
"""A block that is timed by itself finds its weights in the cache; in a network that outgrows the cache they
come from memory, which takes the longer the more there are. On the space `ofa-mbv3-w1.0`, whose networks have
up to 30 MB of them, the table alone was 10 % too low at 140 pixels and 3 % too high at 224."""
MACS = "MACs alone"
"""The rival that a model has to beat; it is judged beside the others and never chosen."""


def block_macs(block: Block) -> float:
    """Multiply-accumulates of a block."""
    return float(block.macs)


def block_params(block: Block) -> float:
    """Parameters of a block."""
    return float(block.params)


def candidates(table_ms: BlockValue | None = None) -> dict[str, Callable[[], LatencyEstimator]]:
    """Makes each model that may be chosen, by name, the simplest first.

    Args:
        table_ms: the latency of a block by the device's table; None: it has none.
    """
    if table_ms is None:
        return {LAYERS: LayerFit}
    return {
        TABLE: lambda: Linear(table_ms),
        TABLE_AND_WEIGHTS: lambda: Linear(table_ms, block_params),
        TABLE_AND_LAYERS: lambda: LayerFit(table_ms),
        LAYERS: LayerFit,
    }


@dataclass(frozen=True)
class Choice:
    """A model and why it was chosen."""

    name: str
    model: LatencyEstimator
    """Fitted to all networks."""
    errors: Mapping[str, ErrorRecord]
    """Of every candidate and of `MACS`, cross-validated."""


def choose(networks: Sequence[Network], latency_ms: Latencies, table_ms: BlockValue | None = None) -> Choice:
    """Fit every candidate to measured whole networks and choose by cross-validation.

    The simplest candidate wins whose mean absolute error is within one standard error of the smallest: among
    a dozen networks the smallest is often luck (Breiman et al., Classification and Regression Trees, 1984;
    the standard error here is that of the difference, network by network). Of fewer than `MIN_NETWORKS`
    networks, which are all that a small space has, the simplest candidate is taken.

    Args:
        networks: the blocks of each network.
        latency_ms: measured alone in a fresh process, shape (n,).
        table_ms: the latency of a block by the device's table; None: it has none.

    Raises:
        ValueError: no networks, or a latency that is not above 0.
    """
    known = checked(networks, latency_ms)
    made = candidates(table_ms)
    if len(known) < MIN_NETWORKS:
        name = next(iter(made))
        return Choice(name, made[name]().fit(networks, known), {})
    predicted = {
        name: held_out_predictions(make, networks, known)
        for name, make in {**made, MACS: lambda: Linear(block_macs)}.items()
    }
    sizes = {name: np.abs(values / known - 1) for name, values in predicted.items()}
    best = min((sizes[name] for name in made), key=np.mean)
    worse = {name: sizes[name] - best for name in made}
    chosen = next(name for name in made if worse[name].mean() <= worse[name].std() / np.sqrt(len(best)))
    errors = {name: compare(values, known) for name, values in predicted.items()}
    return Choice(chosen, made[chosen]().fit(networks, known), errors)


def held_out_predictions(
    make: Callable[[], LatencyEstimator], networks: Sequence[Network], latency_ms: Latencies
) -> Latencies:
    """Each network's latency in ms as predicted by a model that was fitted without it, shape (n,)."""
    predicted = np.zeros(len(networks))
    fold = np.random.default_rng(0).permutation(len(networks)) % FOLDS
    for k in range(FOLDS):
        known = [network for network, its_fold in zip(networks, fold, strict=True) if its_fold != k]
        held_out = [network for network, its_fold in zip(networks, fold, strict=True) if its_fold == k]
        predicted[fold == k] = make().fit(known, latency_ms[fold != k]).predict(held_out)
    return predicted
