"""ONNX nodes of attention within windows, and of the merging of tokens."""

from __future__ import annotations

import numpy as np

from nas.onnx_backend.graph_writer import GraphWriter
from search_spaces import Node
from search_spaces import operators as ops
from search_spaces.operators.distances import distances, window_mask


def write(graph: GraphWriter, node: Node, inputs: list[str], output: str) -> None:
    """Add the nodes of attention within windows."""
    op, path, (spec,) = node.op, node.path, node.specs
    assert isinstance(op, ops.WindowAttention)
    (height, width), (rows, columns) = op.window, spec.size
    windows = (rows // height, columns // width)
    n_windows, tokens, head_dim = windows[0] * windows[1], height * width, op.head_dim(spec)
    shifts = op.shifts(spec)
    source = _roll(graph, path, inputs[0], (-shifts[0], -shifts[1]), spec.size, "shifted")

    def reshape(name: str, *shape: int, to: str) -> None:
        sizes = graph.constant(f"{to}.shape", np.array(shape))
        graph.node("Reshape", [name, sizes], to)

    reshape(source, -1, windows[0], height, windows[1], width, 3, op.heads * head_dim, to=f"{path}.windows")
    # to (3 for query, key and value; images; windows; tokens of a window; heads; channels of a head)
    graph.node("Transpose", [f"{path}.windows"], f"{path}.by_window", perm=[5, 0, 1, 3, 2, 4, 6])
    reshape(f"{path}.by_window", 3, -1, n_windows, tokens, op.heads, head_dim, to=f"{path}.split_heads")
    graph.node("Transpose", [f"{path}.split_heads"], f"{path}.qkv", perm=[0, 1, 2, 4, 3, 5])
    for i, part in enumerate(("query", "key", "value")):
        index = graph.constant(f"{path}.{part}.index", np.array(i))
        graph.node("Gather", [f"{path}.qkv", index], f"{path}.{part}", axis=0)
    query, key = (
        _normalized(graph, f"{path}.{part}") if op.normalized else f"{path}.{part}"
        for part in ("query", "key")
    )
    graph.node("Transpose", [key], f"{path}.key.transposed", perm=[0, 1, 2, 4, 3])
    graph.node("MatMul", [query, f"{path}.key.transposed"], f"{path}.products")
    factor = np.array(head_dim**-0.5, np.float32)
    if op.normalized:
        factor = graph.weights[f"{path}.scale"][:, None, None]
    scale = graph.constant(f"{path}.scale", factor)
    graph.node("Mul", [f"{path}.products", scale], f"{path}.logits")
    distance_rows, distance_columns = distances(ops.RelativeBias(op.window))
    bias = graph.weights[f"{path}.bias"][distance_rows.T, distance_columns.T].transpose(2, 0, 1)
    graph.node("Add", [f"{path}.logits", graph.constant(f"{path}.bias", bias)], f"{path}.biased")
    logits = f"{path}.biased"
    if any(shifts):
        mask = window_mask((rows, columns), op.window, shifts)
        graph.node("Add", [logits, graph.constant(f"{path}.mask", mask)], f"{path}.masked")
        logits = f"{path}.masked"
    graph.node("Softmax", [logits], f"{path}.shares", axis=-1)
    graph.node("MatMul", [f"{path}.shares", f"{path}.value"], f"{path}.mixed")
    graph.node("Transpose", [f"{path}.mixed"], f"{path}.by_token", perm=[0, 1, 3, 2, 4])
    channels = node.output.channels
    reshape(f"{path}.by_token", -1, *windows, height, width, channels, to=f"{path}.merged")
    graph.node("Transpose", [f"{path}.merged"], f"{path}.grid", perm=[0, 1, 3, 2, 4, 5])
    shape = (-1, rows, columns, channels)
    if any(shifts):
        reshape(f"{path}.grid", *shape, to=f"{path}.out")
        _roll(graph, path, f"{path}.out", shifts, spec.size, output)
    else:
        graph.node("Reshape", [f"{path}.grid", graph.constant(f"{path}.shape", np.array(shape))], output)


def _normalized(graph: GraphWriter, name: str) -> str:
    """Divide vectors by their norms, as `torch.nn.functional.normalize` does; returns the name of the
    result."""
    axis = graph.constant(f"{name}.axis", np.array([-1]))
    graph.node("ReduceL2", [name, axis], f"{name}.norm", keepdims=1)
    smallest = graph.constant(f"{name}.eps", np.array(1e-12, np.float32))
    graph.node("Max", [f"{name}.norm", smallest], f"{name}.divisor")
    graph.node("Div", [name, f"{name}.divisor"], f"{name}.normalized")
    return f"{name}.normalized"


def _roll(
    graph: GraphWriter, path: str, source: str, shifts: tuple[int, int], size: tuple[int, ...], output: str
) -> str:
    """Shift a grid cyclically; returns the name of the result.

    Args:
        graph: the graph.
        path: name of the node.
        source: name of the grid.
        shifts: vertical and horizontal shift in tokens.
        size: height and width of the grid.
        output: name of the result if there is a shift; with `shifted`, the name is derived from `path`.
    """
    axes = [axis for axis in (0, 1) if shifts[axis]]
    for axis in axes:
        last = axis == axes[-1]
        name = output if last and output != "shifted" else f"{path}.{output}.{axis}"
        indices = graph.constant(f"{name}.indices", np.roll(np.arange(size[axis]), shifts[axis]))
        graph.node("Gather", [source, indices], name, axis=1 + axis)
        source = name
    return source


def write_merge(graph: GraphWriter, node: Node, inputs: list[str], output: str) -> None:
    """Add the nodes that merge 2 x 2 tokens."""
    path, (spec,) = node.path, node.specs
    (rows, columns), channels = node.output.size, spec.channels
    split = graph.constant(f"{path}.split", np.array([-1, rows, 2, columns, 2, channels]))
    graph.node("Reshape", [*inputs, split], f"{path}.squares")
    graph.node("Transpose", [f"{path}.squares"], f"{path}.by_token", perm=[0, 1, 3, 4, 2, 5])
    shape = graph.constant(f"{path}.shape", np.array([-1, rows, columns, 4 * channels]))
    graph.node("Reshape", [f"{path}.by_token", shape], output)
