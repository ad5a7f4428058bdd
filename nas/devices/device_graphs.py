"""Graphs that are timed on a device. Their random weights are generated there and not part of the bundle.

Latency does not depend on the values of weights, as long as no activation becomes denormal. So the graphs of
a bundle refer to one file of random numbers, which the device writes. It has a region for each data type and
standard deviation, which all constants of this kind share. Subnets took the same time as with individual
weights (digits: 61-69 us, all four within 0.5 %).

Sizes of compressed bundles with all blocks of a space and 60 whole subnets: digits 0.5 MB, ofa-mbv3-w1.2
2.3 MB, attentivenas 1.7 MB, ofa-resnet50 2.4 MB (11, 13 and 15 MB as files; 24, 58 and 183 MB of numbers are
generated on the device).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from hw_profiles.latency_models.selection import weight_bytes
from hw_profiles.measuring.bundle import LIGHT, WEIGHTS, BundledModel, Region, TrialPlan, Weights, alone_plan
from hw_profiles.run_settings import ProfilePrecision, RunSettings
from nas.devices.asked_precision import layer_precisions
from nas.onnx_backend import onnx_graph
from nas.onnx_backend.precision import convert, uniform_blocks
from search_spaces import Block
from search_spaces.tensors import MIXED

SHARED_FROM = 256
"""Constants with fewer elements stay in their graph."""
_PAGE = 4096
_SEED = 0
_INDICES = (TensorProto.INT32, TensorProto.INT64)
"""Types of constants that are not weights, such as the distances of tokens."""
_Kind = tuple[str, float]
"""Type and standard deviation of a constant."""


@dataclass(frozen=True, slots=True)
class TimedGraph:
    """A graph that is timed; see `BundledModel` for the other fields."""

    id: str
    blocks: tuple[Block, ...]
    passes: int
    """Number of latencies to measure; `_trials` has the number of trials for each."""
    alone: bool = False
    images: str | None = None


def bundled(
    graphs: Iterable[TimedGraph], settings: RunSettings, rng: np.random.Generator
) -> tuple[list[BundledModel], Weights]:
    """The graphs as small files, and the description of their weights for the device."""
    graphs = [replace(g, blocks=_in_precision(g.blocks, settings.precision)) for g in graphs]
    models, weights = share_weights(_models(graphs, settings, rng))
    files = [
        BundledModel(
            graph.id,
            model,
            graph.passes * trials.n_trials,
            graph.alone,
            graph.images,
            trials.n_sessions,
            layers=layer_precisions(onnx.load_from_string(model)) if settings.precision == MIXED else (),
        )
        for graph, model, trials in zip(graphs, models, map(_trials, graphs), strict=True)
    ]
    return files, weights


def _in_precision(blocks: Sequence[Block], precision: ProfilePrecision) -> tuple[Block, ...]:
    """The blocks in the precision of a profile; unchanged in a mixed profile."""
    return tuple(blocks) if precision == "mixed" else uniform_blocks(blocks, precision)


def _trials(graph: TimedGraph) -> TrialPlan:
    """The trials of each pass."""
    return alone_plan(int(sum(map(weight_bytes, graph.blocks)))) if graph.alone else LIGHT


def _models(
    graphs: Iterable[TimedGraph], settings: RunSettings, rng: np.random.Generator
) -> Iterator[onnx.ModelProto]:
    for graph in graphs:
        weights = onnx_graph.random_weights(graph.blocks, rng)
        model = onnx_graph.build(graph.blocks, weights, batch=settings.batch)
        yield convert(model, graph.blocks, settings.int8_for)


def share_weights(models: Iterable[onnx.ModelProto]) -> tuple[list[bytes], Weights]:
    """Replace the large constants of models by regions of a file of random numbers, one region for each kind.

    Args:
        models: models with random weights; only one at a time is in memory with its constants.

    Returns:
        The models without the constants, and the description of the file.
    """
    stripped, counts = [], dict[_Kind, int]()
    for model in models:
        kinds = {c.name: _kind(c) for c in model.graph.initializer if _is_shared(c)}
        for constant in model.graph.initializer:
            if constant.name in kinds:
                kind = kinds[constant.name]
                counts[kind] = max(counts.get(kind, 0), _size(constant))
                constant.ClearField("raw_data")
        stripped.append((model, kinds))
    weights = Weights(seed=_SEED, regions=_regions(counts))
    places = {(region.dtype, region.scale): region.offset for region in weights.regions}
    return [_placed(model, kinds, places) for model, kinds in stripped], weights


def _is_shared(constant: TensorProto) -> bool:
    if _size(constant) < SHARED_FROM or constant.data_type in _INDICES:
        return False
    # scales of INT8 values must not be negative, and weights of norms must not be zero
    values = numpy_helper.to_array(constant)
    return not constant.name.endswith("_scale") and not bool((values == 1).all())


def _size(constant: TensorProto) -> int:
    return int(np.prod(constant.dims))


def _kind(constant: TensorProto) -> _Kind:
    values = numpy_helper.to_array(constant)
    return values.dtype.name, float(f"{values.std(dtype=np.float64):.1e}")  # rounded, for fewer regions


def _regions(counts: Mapping[_Kind, int]) -> tuple[Region, ...]:
    """Consecutive regions, each at the start of a page, as required for a memory-mapped file."""
    regions, offset = [], 0
    for (dtype, scale), count in sorted(counts.items()):
        regions.append(Region(dtype=dtype, scale=scale, offset=offset, count=count))
        offset += -(-count * np.dtype(dtype).itemsize // _PAGE) * _PAGE
    return tuple(regions)


def _placed(model: onnx.ModelProto, kinds: Mapping[str, _Kind], places: Mapping[_Kind, int]) -> bytes:
    for constant in model.graph.initializer:
        if constant.name in kinds:
            length = _size(constant) * helper.tensor_dtype_to_np_dtype(constant.data_type).itemsize
            constant.data_location = TensorProto.EXTERNAL
            place = {"location": WEIGHTS, "offset": places[kinds[constant.name]], "length": length}
            for key, value in place.items():
                constant.external_data.add(key=key, value=str(value))
    content: bytes = model.SerializeToString(deterministic=True)
    return content
