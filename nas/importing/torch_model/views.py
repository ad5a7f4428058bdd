"""Recognizes functions that only move elements, such as `reshape`, and the operators that do the same.

The function runs on a tensor with the indices of the elements. The result is compared with the results of the
operators, so the recognition does not depend on how the code of a model is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from nas.importing.torch_model.lowering import Call, Deferred, Index, View, Weight, kind_of
from nas.importing.torch_model.tracer import BATCH
from search_spaces.tensors import TensorSpec


def rearrange(call: Call) -> Any:
    """Run a function that moves elements on their indices."""
    value = call.argument(0, "input")
    source = Index(value.source) if isinstance(value, View) else value
    if not isinstance(source, Index):
        raise ValueError(f"only outputs of operators can be reshaped or reordered, got {kind_of(value)}")
    result = call.run(lambda argument: _indices(call, argument))

    def of_previous(*position: int) -> View | Index:
        """The same result, as a view of a new layer that computes the argument."""
        assert isinstance(value, View)
        layer = call.lowering.materialized(call, value)
        part = call.run(lambda argument: _indices(call, layer if argument is value else argument))
        for i in position:
            part = part[i]
        return View(layer, part)

    return _views(call, source, result, of_previous if isinstance(value, View) else None)


def item(call: Call) -> Any:
    """Take a part of a tensor, or one of several tensors."""
    source = call.args[0]
    return source[call.args[1]] if isinstance(source, tuple) else rearrange(call)


def joined(call: Call, parts: list[Index | View], dim: int) -> View | None:
    """The concatenation of parts of one tensor as a view; None if no operator computes it."""
    sources = {part.source if isinstance(part, View) else part for part in parts}
    if len(sources) > 1 or not any(isinstance(part, View) for part in parts):
        return None
    source = Index(sources.pop())
    view = View(source, torch.cat([_indices(call, part) for part in parts], dim))
    return view if next(operators_of(call, view), None) else None


def recognize(call: Call, view: View) -> Index | None:
    """Add the layer that computes a view; None: there is no operator for it."""
    for op, fields in operators_of(call, view):
        return call.add(op, view.source, path=call.path(op), **fields) if op else Index(view.source)
    return None


def without_repetitions(view: View) -> View:
    """A view without the dimensions along which its elements repeat."""
    repeated = tuple(slice(1) if step == 0 else slice(None) for step in view.indices.stride())
    return View(view.source, view.indices[repeated])


def _indices(call: Call, argument: Any) -> Any:
    if isinstance(argument, Index):
        return call.lowering.indices(argument)
    if isinstance(argument, View):
        return argument.indices
    if isinstance(argument, Weight | Deferred):
        raise ValueError(
            f"the arguments of reshaping and indexing must be constants, got {kind_of(argument)}"
        )
    return argument


def _views(
    call: Call, source: Index, result: Any, previous: Callable[..., View | Index] | None
) -> View | Index | tuple[View | Index, ...]:
    if isinstance(result, tuple | list):
        return tuple(
            _view(call, source, part, previous and partial(previous, i)) for i, part in enumerate(result)
        )
    return _view(call, source, result, previous)


def _view(
    call: Call, source: Index, result: Tensor, previous: Callable[[], View | Index] | None
) -> View | Index:
    unchanged = result.shape == (BATCH, *call.spec(source).shape)
    if unchanged and torch.equal(result, call.lowering.indices(source)):
        return Index(source)
    return View(source, result, previous)


def operators_of(call: Call, view: View) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The operators that compute a view, with their fields; an empty name for the tensor itself."""
    spec, full = call.spec(view.source), call.lowering.indices(view.source)
    order = view.indices
    if len(order) != BATCH or not order.numel():
        return

    def same(expected: Tensor) -> bool:
        return order.shape == expected.shape and torch.equal(order, expected)

    if same(full):
        yield "", {}
    if same(full.flatten(1)) and (spec.layout != "tokens" or spec.pixels == 1):
        yield "flatten", {}
    if spec.layout == "image":
        if same(full.permute(0, 2, 3, 1)):
            yield "channels_last", {}
        if same(full.flatten(2).transpose(1, 2)):
            yield "image_to_tokens", {}
        if order.ndim == 4:
            step = -(-spec.size[0] // order.shape[2])
            if same(full[:, :, ::step, ::step]):
                yield "max_pool2d", {"kernel": 1, "stride": step}
    elif spec.layout == "vector":
        if same(full[:, :, None, None]):
            yield "to_pixel", {}
    elif len(spec.size) == 2:
        if same(full.permute(0, 3, 1, 2)):
            yield "channels_first", {}
        if not any(side % 2 for side in spec.size) and same(_merged(full)):
            yield "merge_tokens", {}
    elif order.ndim == 2 and order.shape[1] == spec.channels:
        token = int(order[0, 0]) // spec.channels
        if same(full[:, token]):
            yield "take_token", {"index": token} if token else {}
    yield from _of_channels(spec, full, order)


def _of_channels(spec: TensorSpec, full: Tensor, order: Tensor) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """A range of the channels, or a shuffle."""
    if order.ndim != full.ndim or (spec.layout == "tokens" and len(spec.size) > 1):
        return
    dim = full.ndim - 1 if spec.layout == "tokens" else 1
    channels = full.select(0, 0).movedim(dim - 1, 0).flatten(1)[:, 0]
    own = order.select(0, 0).movedim(dim - 1, 0).flatten(1)[:, 0]
    first = (channels == own[0]).nonzero()
    if not len(first):
        return
    start, length = int(first[0]), len(own)
    if start + length <= spec.channels and torch.equal(order, full.narrow(dim, start, length)):
        yield "slice", {"start": start, "end": start + length}
    if length == spec.channels > 1 and start == 0:
        second = (channels == own[1]).nonzero()
        size = int(second[0]) if len(second) else 0
        if size and length % size == 0:
            groups = length // size
            matrix = full.unflatten(dim, (groups, size)).transpose(dim, dim + 1)
            if torch.equal(order, matrix.flatten(dim, dim + 1)):
                yield "channel_shuffle", {"groups": groups}


def _merged(full: Tensor) -> Tensor:
    n, rows, columns, channels = full.shape
    squares = full.reshape(n, rows // 2, 2, columns // 2, 2, channels)
    return squares.permute(0, 1, 3, 4, 2, 5).flatten(3)
