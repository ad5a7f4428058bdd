"""The borders between INT8 and floating-point nodes of a graph in the QDQ format."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnxruntime.quantization.quant_utils import add_dequant_output_suffix

from search_spaces import Node

_REQUANTIZED = ("Conv", "Gemm")


def separate_floats(graph: onnx.GraphProto, in_float: Mapping[str, Node]) -> None:
    """Reconnect the inputs of floating-point nodes so that no needless rounding reaches them, in place.

    If an INT8 node reads a tensor, the quantizer replaces this tensor by a rounded one for all its readers.
    Here, floating-point nodes read the images and the outputs of other floating-point nodes without rounding.

    If a floating-point convolution lies between a DequantizeLinear and a QuantizeLinear node, ONNX Runtime
    computes the convolution with integers, and with one scale for all channels of the weights. To prevent
    this, floating-point readers of INT8 values read a DequantizeLinear node with a scale per channel; all
    these scales are equal.

    ONNX Runtime copies a DequantizeLinear node for each of its readers. Then it does not fuse the sum at the
    end of a shortcut with a convolution, neither there nor in later blocks of the stage. Therefore several
    readers get the values through one MaxPool node over single pixels. This node does not change the values
    and has the layout of the convolutions. It made networks of the space `cifar` with such a border 3 %
    faster in each of four places.

    Args:
        graph: a quantized graph.
        in_float: for each floating-point node of the graph by name, the node of the block that it belongs to.
    """
    readers = [node for node in graph.node if node.name in in_float]
    floats = {name for node in readers for name in node.output} | {tensor.name for tensor in graph.input}
    original = {add_dequant_output_suffix(name): name for name in floats}
    for node in readers:
        for i, name in enumerate(node.input):
            node.input[i] = original.get(name, name)
    dequantized = {node.output[0]: node for node in graph.node if node.op_type == "DequantizeLinear"}
    borders = {
        node.input[0]: in_float[node.name].specs[0]
        for node in readers
        if node.op_type in _REQUANTIZED and node.input[0] in dequantized
    }
    for tensor, spec in borders.items():
        new = [_per_channel(graph, dequantized[tensor], spec.channels)]
        places = [(node, i) for node in readers for i, name in enumerate(node.input) if name == tensor]
        if len(places) > 1 and spec.layout == "image":
            shared = f"{new[0].output[0]}_shared"
            new.append(helper.make_node("MaxPool", new[0].output, [shared], name=shared, kernel_shape=[1, 1]))
        at = list(graph.node).index(dequantized[tensor]) + 1
        for node in reversed(new):
            graph.node.insert(at, node)
        for node, i in places:
            node.input[i] = new[-1].output[0]
    _remove_unread(graph)


def _per_channel(graph: onnx.GraphProto, node: onnx.NodeProto, channels: int) -> onnx.NodeProto:
    """A DequantizeLinear node with the same scale for each channel."""
    constants = {constant.name: constant for constant in graph.initializer}
    values, *parameters = node.input
    names = []
    for parameter in parameters:
        name = f"{parameter}_border"
        if name not in constants:
            value = numpy_helper.to_array(constants[parameter])
            graph.initializer.append(numpy_helper.from_array(np.full(channels, value), name))
        names.append(name)
    output = f"{node.output[0]}_border"
    return helper.make_node("DequantizeLinear", [values, *names], [output], name=output, axis=1)


def _remove_unread(graph: onnx.GraphProto) -> None:
    """Remove DequantizeLinear and QuantizeLinear nodes that no node reads."""
    for op in ("DequantizeLinear", "QuantizeLinear"):
        read = {name for node in graph.node for name in node.input} | {out.name for out in graph.output}
        kept = [node for node in graph.node if node.op_type != op or node.output[0] in read]
        del graph.node[:]
        graph.node.extend(kept)
