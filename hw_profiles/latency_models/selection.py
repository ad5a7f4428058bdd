"""Selects the latency model of a device by cross-validation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hw_profiles.latency_models.base import (
    TABLE,
    BlockValue,
    LatencyEstimator,
    Linear,
    Network,
    check_latencies,
)
from hw_profiles.latency_models.layerwise import LayerFit
from hw_profiles.latency_models.prediction_error import ErrorRecord, Latencies, compare
from search_spaces import Block
from search_spaces.block_precision import border, precision_of, without_border
from search_spaces.memory import BYTES_PER_NUMBER
from search_spaces.tensors import FP32, INT8, Precision

FOLDS = 5
MIN_NETWORKS = 10
"""With fewer networks there is no cross-validation."""
LAYERS, TABLE_AND_LAYERS = "layers", "table and layers"
TABLE_AND_WEIGHTS = "table and weights"
"""The table and the bytes of the weights. A block that is timed separately reads its weights from the cache.
In a network larger than the cache, weights come from memory, which takes time in proportion to their number.
On the space `ofa-mbv3-w1.0`, whose networks have up to 30 MB of weights, the table alone was 10 % too low at
140 pixels and 3 % too high at 224."""
TABLE_BY_PART = "table by part"
"""The table with a factor for the blocks of each precision, and one for the borders between them. A block is
slower inside a network than in a small graph, whose tensors stay in the cache. On an AVX-512 server, this
factor was 1.3 for the blocks of `cifar` in both precisions, and 3 for the borders, which only move memory."""
PARTS_AND_WEIGHTS = "table by part and weights"
MACS = "MACs alone"
"""The baseline; it is compared with the others and never chosen."""


def block_macs(block: Block) -> float:
    """Multiply-accumulates of a block."""
    return float(block.macs)


def weight_bytes(block: Block) -> float:
    """Bytes of the parameters of a block."""
    return float(block.params * BYTES_PER_NUMBER[precision_of(block)])


def candidates(
    table_ms: BlockValue | None = None, mixed: bool = False
) -> dict[str, Callable[[], LatencyEstimator]]:
    """Factories of the models that can be chosen, by name, the simplest first.

    Args:
        table_ms: latency of a block in the table of the device; None without a table.
        mixed: whether the networks have blocks of different precision, which the terms of layers do not
            distinguish.
    """
    if table_ms is None:
        return {LAYERS: LayerFit}
    if mixed:
        return {
            TABLE_BY_PART: lambda: Linear(*parts(table_ms)),
            PARTS_AND_WEIGHTS: lambda: Linear(*parts(table_ms), weight_bytes),
        }
    return {
        TABLE: lambda: Linear(table_ms),
        TABLE_AND_WEIGHTS: lambda: Linear(table_ms, weight_bytes),
        TABLE_AND_LAYERS: lambda: LayerFit(table_ms),
        LAYERS: LayerFit,
    }


def parts(table_ms: BlockValue) -> tuple[BlockValue, BlockValue, BlockValue]:
    """The latency of a block without its borders, in fp32 and in INT8, and the latency of its borders."""

    def inside(block: Block) -> float:
        return table_ms(without_border(block))

    def only(precision: Precision) -> BlockValue:
        return lambda block: inside(block) if precision_of(block) == precision else 0.0

    def of_borders(block: Block) -> float:
        return table_ms(block) - inside(block) if border(block) else 0.0

    return only(FP32), only(INT8), of_borders


@dataclass(frozen=True)
class SelectedModel:
    """The selected model and the errors of all models."""

    name: str
    model: LatencyEstimator
    """The model, fitted to all networks."""
    errors: Mapping[str, ErrorRecord]
    """Cross-validated errors of every candidate and of `MACS`."""


def select_model(
    networks: Sequence[Network],
    latency_ms: Latencies,
    table_ms: BlockValue | None = None,
    mixed: bool = False,
) -> SelectedModel:
    """Fit every candidate to measured whole networks and select one by cross-validation.

    The simplest candidate is selected whose mean absolute error is within one standard error of the smallest:
    with a dozen networks the smallest error is often chance (Breiman et al., Classification and Regression
    Trees, 1984; the standard error here is that of the difference for each network). With fewer than
    `MIN_NETWORKS` networks, as in a small space, the model is the table with one factor, if there is a table.

    Args:
        networks: the blocks of each network.
        latency_ms: measured latencies alone in a fresh process, shape (n,).
        table_ms: latency of a block in the table of the device; None without a table.
        mixed: whether the networks have blocks of different precision.

    Raises:
        ValueError: there are no networks, or a latency is not above 0.
    """
    known = check_latencies(networks, latency_ms)
    made = candidates(table_ms, mixed)
    if len(known) < MIN_NETWORKS:
        name, simplest = (TABLE, Linear(table_ms)) if table_ms else (LAYERS, LayerFit())
        return SelectedModel(name, simplest.fit(networks, known), {})
    predicted = {
        name: held_out_predictions(make, networks, known)
        for name, make in {**made, MACS: lambda: Linear(block_macs)}.items()
    }
    sizes = {name: np.abs(values / known - 1) for name, values in predicted.items()}
    best = min((sizes[name] for name in made), key=np.mean)
    worse = {name: sizes[name] - best for name in made}
    chosen = next(name for name in made if worse[name].mean() <= worse[name].std() / np.sqrt(len(best)))
    errors = {name: compare(values, known) for name, values in predicted.items()}
    return SelectedModel(chosen, made[chosen]().fit(networks, known), errors)


def held_out_predictions(
    make: Callable[[], LatencyEstimator], networks: Sequence[Network], latency_ms: Latencies
) -> Latencies:
    """The latency of each network in ms, predicted by a model fitted without it, shape (n,)."""
    predicted = np.zeros(len(networks))
    fold = np.random.default_rng(0).permutation(len(networks)) % FOLDS
    for k in range(FOLDS):
        known = [network for network, its_fold in zip(networks, fold, strict=True) if its_fold != k]
        held_out = [network for network, its_fold in zip(networks, fold, strict=True) if its_fold == k]
        predicted[fold == k] = make().fit(known, latency_ms[fold != k]).predict(held_out)
    return predicted
