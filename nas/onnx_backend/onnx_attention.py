"""ONNX nodes of attention.

Attention is written with elementary nodes, because the Attention node needs opset 23, which runtimes for
phones do not support.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nas.onnx_backend.graph_writer import GraphWriter
from search_spaces import Node
from search_spaces import operators as ops
from search_spaces.operators.distances import distances

AXES = ("rows", "columns")
PARTS = ("query", "key", "value")


def write(graph: GraphWriter, node: Node, inputs: list[str], output: str) -> None:
    """Add the nodes of attention."""
    op, path = node.op, node.path
    assert isinstance(op, ops.Attention)
    (_split if len(inputs) == 1 else _split_each)(graph, node, inputs)
    graph.node("MatMul", [f"{path}.query", f"{path}.key.transposed"], f"{path}.products")
    logits = f"{path}.products"
    if isinstance(op.relative, ops.RelativeTables):
        logits = _add_distances_of_keys(graph, node, op.relative, logits)
    scale = graph.constant(f"{path}.scale", np.array(op.head_dim(*node.specs) ** -0.5, np.float32))
    graph.node("Mul", [logits, scale], f"{path}.logits")
    logits = f"{path}.logits"
    if isinstance(op.relative, ops.RelativeBias):
        bias = graph.weights[f"{path}.bias"][distances(op.relative)].transpose(2, 0, 1)
        graph.node("Add", [logits, graph.constant(f"{path}.bias", bias)], f"{path}.biased")
        logits = f"{path}.biased"
    if op.talking_heads:
        _mix(graph, node, "before", logits, f"{path}.talking")
        graph.node("Softmax", [f"{path}.talking"], f"{path}.softmax", axis=-1)
        _mix(graph, node, "after", f"{path}.softmax", f"{path}.shares")
    else:
        graph.node("Softmax", [logits], f"{path}.shares", axis=-1)
    graph.node("MatMul", [f"{path}.shares", f"{path}.value"], f"{path}.mixed")
    mixed = f"{path}.mixed"
    if isinstance(op.relative, ops.RelativeTables):
        mixed = _add_distances_of_values(graph, node, op.relative, mixed)
    graph.node("Transpose", [mixed], f"{path}.by_token", perm=[0, 2, 1, 3])
    shape = graph.constant(f"{path}.shape", np.array([0, *node.output.shape]))
    graph.node("Reshape", [f"{path}.by_token", shape], output)


def _split(graph: GraphWriter, node: Node, inputs: list[str]) -> None:
    """Queries, transposed keys and values by head, from one tensor."""
    op, path = node.op, node.path
    assert isinstance(op, ops.Attention)
    shape = np.array([0, node.output.pixels, 3, op.heads, op.head_dim(*node.specs)])
    graph.node("Reshape", [*inputs, graph.constant(f"{path}.split", shape)], f"{path}.split_heads")
    graph.node("Transpose", [f"{path}.split_heads"], f"{path}.qkv", perm=[2, 0, 3, 1, 4])
    for i, part in enumerate(PARTS):
        index = graph.constant(f"{path}.{part}.index", np.array(i))
        graph.node("Gather", [f"{path}.qkv", index], f"{path}.{part}", axis=0)
    graph.node("Transpose", [f"{path}.key"], f"{path}.key.transposed", perm=[0, 1, 3, 2])


def _split_each(graph: GraphWriter, node: Node, inputs: list[str]) -> None:
    """Queries, transposed keys and values by head, from a tensor for each of them."""
    op, path = node.op, node.path
    assert isinstance(op, ops.Attention)
    shape = graph.constant(f"{path}.split", np.array([0, node.output.pixels, op.heads, -1]))
    for part, tensor in zip(PARTS, inputs, strict=True):
        output, perm = (
            (f"{path}.key.transposed", [0, 2, 3, 1]) if part == "key" else (f"{path}.{part}", [0, 2, 1, 3])
        )
        graph.node("Reshape", [tensor, shape], f"{path}.{part}.heads")
        graph.node("Transpose", [f"{path}.{part}.heads"], output, perm=perm)


def _mix(graph: GraphWriter, node: Node, name: str, tensor: str, output: str) -> None:
    """Mix heads by a 1×1 convolution, whose channels are the heads."""
    path = node.path
    weight = graph.weights[f"{path}.{name}_weight"][:, :, None, None]
    constants = [
        graph.constant(f"{path}.{name}_weight", weight),
        graph.constant(f"{path}.{name}_bias", graph.weights[f"{path}.{name}_bias"]),
    ]
    graph.node("Conv", [tensor, *constants], output, kernel_shape=[1, 1])


def _add_distances_of_keys(graph: GraphWriter, node: Node, relative: ops.RelativeTables, logits: str) -> str:
    """Add to the logits the product of each query with the vector of its distance from each key.

    The queries are multiplied with the vectors of all distances, and each pair of tokens takes the product
    for its distance. Tokens at equal vertical or horizontal positions have equal distances, so products are
    taken for each position and copied to the tokens at this position, by a matrix product with zeros and
    ones.

    Returns:
        the name of the sum.
    """
    path = node.path
    graph.node("Shape", [f"{path}.query"], f"{path}.batch", start=0, end=2)
    for axis in AXES:
        name, table = f"{path}.key_{axis}", graph.weights[f"{path}.key_{axis}"]
        graph.node("MatMul", [f"{path}.query", graph.constant(name, table.T.copy())], f"{name}.products")
        positions, shape = _positions(graph, relative, axis), f"{path}.{axis}.shape"
        size = graph.constant(f"{positions}.size", np.array(_by_position(relative, axis).indices.shape))
        graph.node("Concat", [f"{path}.batch", size], shape, axis=0)
        graph.node("Expand", [positions, shape], f"{path}.{axis}")
        graph.node("GatherElements", [f"{name}.products", f"{path}.{axis}"], f"{name}.taken", axis=3)
    graph.node("Concat", [f"{path}.key_{axis}.taken" for axis in AXES], f"{path}.taken", axis=3)
    graph.node("MatMul", [f"{path}.taken", _tokens(graph, relative)], f"{path}.distances")
    graph.node("Add", [logits, f"{path}.distances"], f"{path}.sum")
    return f"{path}.sum"


def _add_distances_of_values(graph: GraphWriter, node: Node, relative: ops.RelativeTables, mixed: str) -> str:
    """Add to the values the vectors of all distances, weighted with the sum of the attention weights of each.

    Returns:
        the name of the sum.
    """
    path = node.path
    zero = graph.constant(f"{path}.zero", np.zeros(1, np.float32))
    graph.node("Transpose", [_tokens(graph, relative)], f"{path}.by_position", perm=[1, 0])
    graph.node("MatMul", [f"{path}.shares", f"{path}.by_position"], f"{path}.sums")
    sizes = np.array([_by_position(relative, axis).indices.shape[1] for axis in AXES])
    ends = graph.constant(f"{path}.ends", sizes)
    graph.split([f"{path}.sums", ends], [f"{path}.{axis}.sums" for axis in AXES], axis=3)
    for axis in AXES:
        name, table = f"{path}.value_{axis}", graph.weights[f"{path}.value_{axis}"]
        graph.node("Shape", [f"{path}.key_{axis}.products"], f"{name}.shape")
        graph.node("Expand", [zero, f"{name}.shape"], f"{name}.empty")
        totals = [f"{name}.empty", f"{path}.{axis}", f"{path}.{axis}.sums"]
        graph.node("ScatterElements", totals, f"{name}.totals", axis=3, reduction="add")
        graph.node("MatMul", [f"{name}.totals", graph.constant(name, table)], f"{name}.product")
        graph.node("Add", [mixed, f"{name}.product"], f"{name}.sum")
        mixed = f"{name}.sum"
    return mixed


class _ByPosition(NamedTuple):
    """The distances along one axis, of each token to each position along this axis."""

    indices: NDArray[np.int32]
    """Rows of the tables that belong to the distances, shape (tokens, positions)."""
    tokens: NDArray[np.float32]
    """One for the tokens at each position, otherwise zero, shape (positions, tokens)."""


def _by_position(relative: ops.RelativeTables, axis: str) -> _ByPosition:
    indices: NDArray[np.int64] = getattr(distances(relative), axis)
    columns, positions = np.unique(indices, axis=1, return_inverse=True)
    tokens = positions.ravel() == np.arange(columns.shape[1])[:, None]
    return _ByPosition(columns.astype(np.int32), tokens.astype(np.float32))


def _positions(graph: GraphWriter, relative: ops.RelativeTables, axis: str) -> str:
    """Add the indices of `_ByPosition` as a constant that all blocks of a network share; returns its name."""
    return graph.constant(_shared_name(relative, axis), _by_position(relative, axis).indices)


def _tokens(graph: GraphWriter, relative: ops.RelativeTables) -> str:
    """Add the tokens of `_ByPosition` for both axes as a constant that all blocks share; returns its name."""
    tokens = np.concatenate([_by_position(relative, axis).tokens for axis in AXES])
    return graph.constant(_shared_name(relative, "tokens"), tokens)


def _shared_name(relative: ops.RelativeTables, what: str) -> str:
    grid = "x".join(map(str, relative.grid))
    return f"distances.{what}.{grid}.{relative.prefix}.{relative.distance}"
