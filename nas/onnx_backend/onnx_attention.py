"""ONNX nodes of attention.

They are plain nodes: the Attention node needs opset 23, which runtimes for phones do not have.
"""

from __future__ import annotations

import numpy as np

from nas.onnx_backend.graph_writer import GraphWriter
from search_spaces import Node
from search_spaces import operators as ops
from search_spaces.operators.distances import distances


def write(graph: GraphWriter, node: Node, inputs: list[str], output: str) -> None:
    """Add the nodes of attention."""
    op, path = node.op, node.path
    assert isinstance(op, ops.Attention)
    n, head_dim = node.output.pixels, op.head_dim(*node.specs)
    split = graph.constant(f"{path}.split", np.array([0, n, 3, op.heads, head_dim]))
    graph.node("Reshape", [*inputs, split], f"{path}.split_heads")
    graph.node("Transpose", [f"{path}.split_heads"], f"{path}.qkv", perm=[2, 0, 3, 1, 4])
    for i, part in enumerate(("query", "key", "value")):
        index = graph.constant(f"{path}.{part}.index", np.array(i))
        graph.node("Gather", [f"{path}.qkv", index], f"{path}.{part}", axis=0)
    graph.node("Transpose", [f"{path}.key"], f"{path}.key.transposed", perm=[0, 1, 3, 2])
    graph.node("MatMul", [f"{path}.query", f"{path}.key.transposed"], f"{path}.products")
    logits = f"{path}.products"
    if isinstance(op.relative, ops.RelativeTables):
        logits = _add_distances_of_keys(graph, node, op.relative, logits)
    scale = graph.constant(f"{path}.scale", np.array(head_dim**-0.5, np.float32))
    graph.node("Mul", [logits, scale], f"{path}.logits")
    logits = f"{path}.logits"
    if isinstance(op.relative, ops.RelativeBias):
        bias = graph.weights[f"{path}.bias"][distances(op.relative)].transpose(2, 0, 1)
        graph.node("Add", [logits, graph.constant(f"{path}.bias", bias)], f"{path}.biased")
        logits = f"{path}.biased"
    graph.node("Softmax", [logits], f"{path}.shares", axis=-1)
    graph.node("MatMul", [f"{path}.shares", f"{path}.value"], f"{path}.mixed")
    mixed = f"{path}.mixed"
    if isinstance(op.relative, ops.RelativeTables):
        mixed = _add_distances_of_values(graph, node, op.relative, mixed)
    graph.node("Transpose", [mixed], f"{path}.by_token", perm=[0, 2, 1, 3])
    shape = graph.constant(f"{path}.shape", np.array([0, n, node.output.channels]))
    graph.node("Reshape", [f"{path}.by_token", shape], output)


def _add_distances_of_keys(graph: GraphWriter, node: Node, relative: ops.RelativeTables, logits: str) -> str:
    """Products of the queries with the vectors of all distances; each pair of tokens takes its own."""
    path = node.path
    graph.node("Shape", [logits], f"{path}.pairs")
    for axis in ("rows", "columns"):
        table = graph.weights[f"{path}.key_{axis}"]
        products, name = f"{path}.key_{axis}.products", f"{path}.key_{axis}"
        graph.node("MatMul", [f"{path}.query", graph.constant(name, table.T.copy())], products)
        graph.node("Expand", [_indices(graph, relative, axis), f"{path}.pairs"], f"{path}.{axis}")
        graph.node("GatherElements", [products, f"{path}.{axis}"], f"{name}.taken", axis=3)
        graph.node("Add", [logits, f"{name}.taken"], f"{name}.sum")
        logits = f"{name}.sum"
    return logits


def _add_distances_of_values(graph: GraphWriter, node: Node, relative: ops.RelativeTables, mixed: str) -> str:
    """The sum of the attention weights for each distance, times the vectors of the distances."""
    path = node.path
    zero = graph.constant(f"{path}.zero", np.zeros(1, np.float32))
    for axis in ("rows", "columns"):
        name, table = f"{path}.value_{axis}", graph.weights[f"{path}.value_{axis}"]
        graph.node("Shape", [f"{path}.key_{axis}.products"], f"{name}.shape")
        graph.node("Expand", [zero, f"{name}.shape"], f"{name}.empty")
        sums = [f"{name}.empty", f"{path}.{axis}", f"{path}.shares"]
        graph.node("ScatterElements", sums, f"{name}.totals", axis=3, reduction="add")
        graph.node("MatMul", [f"{name}.totals", graph.constant(name, table)], f"{name}.product")
        graph.node("Add", [mixed, f"{name}.product"], f"{name}.sum")
        mixed = f"{name}.sum"
    return mixed


def _indices(graph: GraphWriter, relative: ops.RelativeTables, axis: str) -> str:
    """The indices of the distances of all pairs, which the blocks of a network share."""
    grid = "x".join(map(str, relative.grid))
    name = f"distances.{axis}.{grid}.{relative.prefix}.{relative.distance}"
    return graph.constant(name, getattr(distances(relative), axis).astype(np.int32))
