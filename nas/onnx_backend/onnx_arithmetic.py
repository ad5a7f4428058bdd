"""ONNX nodes of arithmetic with constants."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nas.onnx_backend.graph_writer import GraphWriter
from search_spaces import Node
from search_spaces import operators as ops

NODES = {"add": "Add", "subtract": "Sub", "subtract_from": "Sub", "multiply": "Mul", "divide": "Div"}
"""Type of the node of each function."""


def write(graph: GraphWriter, node: Node, inputs: list[str], output: str) -> None:
    """Add the node of arithmetic with a number."""
    assert isinstance(node.op, ops.Arithmetic)
    _write(graph, node, inputs, output, node.op.function, np.array(node.op.value, np.float32))


def write_by_channel(graph: GraphWriter, node: Node, inputs: list[str], output: str) -> None:
    """Add the node of arithmetic with a number for each channel."""
    assert isinstance(node.op, ops.ChannelArithmetic)
    values = graph.weights[f"{node.path}.value"]
    values = values[:, None, None] if node.op.of_image else values
    _write(graph, node, inputs, output, node.op.function, values)


def _write(
    graph: GraphWriter,
    node: Node,
    inputs: list[str],
    output: str,
    function: str,
    value: NDArray[np.float32],
) -> None:
    operands = [*inputs, graph.constant(f"{node.path}.value", value)]
    graph.node(NODES[function], operands[::-1] if function == "subtract_from" else operands, output)
