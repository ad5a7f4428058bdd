"""Ranges of activations for INT8, found on calibration images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Literal, get_args

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from nas.onnx_backend.graph_writer import BATCH, INPUT

Ranges = Mapping[str, tuple[float, float]]
"""Minimum and maximum of every activation by the name of its tensor."""
Method = Literal["minmax", "percentile", "entropy"]
"""How the ends of a range are chosen; values outside the range are clipped.

`minmax` takes the smallest and the largest value. `percentile` leaves out the smallest and the largest
0.005 % of the values. `entropy` takes the range by which the distribution of the values changes least
(Kullback-Leibler divergence)."""
METHODS: tuple[Method, ...] = get_args(Method)

PERCENTILE = 99.99
_BINS = 2048
_STEPS = 256
"""Values of an 8-bit activation."""
_PER_BIN = 16
"""Smallest mean number of values per bin for the entropy method, which finds no divergence in bins of single
values. If there are fewer values, bins are merged."""
_SHRUNK = np.linspace(1.0, 0.2, 33)
"""Candidates for the entropy method: the range as a share of the range of `minmax`."""
_Histogram = NDArray[np.int64]


def calibrate(
    model: onnx.ModelProto, batches: Iterable[NDArray[np.float32]], method: Method = "minmax"
) -> Ranges:
    """Find the range of every activation on calibration images.

    Args:
        model: a float32 model.
        batches: training images without augmentation, each of shape (n, channels, size, size). Methods other
            than `minmax` iterate twice and need 16 kB of memory for each activation.
        method: how the ends of the ranges are chosen, see `Method`.

    Returns:
        The range of every activation and of the input; each range includes zero.
    """
    ranges: dict[str, tuple[float, float]] = {}
    for values in _activations(model, batches):
        for name, value in values.items():
            low, high = ranges.get(name, (0.0, 0.0))  # every range must include zero
            ranges[name] = min(low, float(value.min())), max(high, float(value.max()))
    if method == "minmax":
        return ranges
    counts = {name: np.zeros(_BINS, np.int64) for name in ranges}
    for values in _activations(model, batches):
        for name, value in values.items():
            counts[name] += _histogram(value, *ranges[name])
    return {name: _NARROW[method](counts[name], *limits) for name, limits in ranges.items()}


def _activations(
    model: onnx.ModelProto, batches: Iterable[NDArray[np.float32]]
) -> Iterator[dict[str, NDArray[np.float32]]]:
    """All activations of each batch by name."""
    observed = onnx.ModelProto()
    observed.CopyFrom(model)
    outputs = {output.name for output in model.graph.output}
    names = [name for node in model.graph.node for name in node.output]
    observed.graph.output.extend(
        onnx.helper.make_empty_tensor_value_info(name) for name in names if name not in outputs
    )
    for tensor in (*observed.graph.input, observed.graph.output[0]):
        tensor.type.tensor_type.shape.dim[0].dim_param = BATCH
    session = onnxruntime.InferenceSession(observed.SerializeToString(), providers=["CPUExecutionProvider"])
    for images in batches:
        yield dict(zip(names, session.run(names, {INPUT: images}), strict=True)) | {INPUT: images}


def _histogram(values: NDArray[np.float32], low: float, high: float) -> _Histogram:
    if low == high:
        return np.zeros(_BINS, np.int64)
    bins = ((values.ravel() - np.float32(low)) * np.float32(_BINS / (high - low))).astype(np.int64)
    return np.bincount(bins.clip(0, _BINS - 1), minlength=_BINS)


def _percentile(counts: _Histogram, low: float, high: float) -> tuple[float, float]:
    shares = np.cumsum(counts) / max(1, counts.sum())
    cut = (1 - PERCENTILE / 100) / 2
    first, last = np.searchsorted(shares, [cut, 1 - cut])
    edges = np.linspace(low, high, _BINS + 1)
    return min(0.0, float(edges[first])), max(0.0, float(edges[min(last, _BINS - 1) + 1]))


def _entropy(counts: _Histogram, low: float, high: float) -> tuple[float, float]:
    if not counts.sum():
        return low, high
    while counts.sum() < _PER_BIN * len(counts) and len(counts) > _STEPS:
        counts = counts.reshape(-1, 2).sum(1)
    edges = np.linspace(low, high, len(counts) + 1)

    def bins(share: float) -> tuple[int, int]:
        first, last = np.searchsorted(edges, [share * low, share * high])
        return int(first), int(last)

    share = min(_SHRUNK, key=lambda share: _divergence(counts, *bins(share)))
    return float(share * low), float(share * high)


def _divergence(counts: _Histogram, first: int, last: int) -> float:
    """Divergence of the values in the bins `first` to `last`, rounded to 8 bits, from all values, clipped to
    these bins."""
    inside = counts[first:last]
    clipped = inside.astype(np.float64)
    clipped[0] += counts[:first].sum()
    clipped[-1] += counts[last:].sum()
    step = np.arange(len(inside)) * _STEPS // len(inside)
    filled = clipped > 0
    spread = np.bincount(step, inside, _STEPS) / np.maximum(1, np.bincount(step, filled, _STEPS))
    rounded = np.maximum(spread[step], 1e-6 * clipped.sum())[filled]
    p, q = clipped[filled] / clipped.sum(), rounded / rounded.sum()
    return float((p * np.log(p / q)).sum())


_NARROW: Mapping[Method, Callable[[_Histogram, float, float], tuple[float, float]]] = {
    "percentile": _percentile,
    "entropy": _entropy,
}
