"""Matrix products with integers and dynamic quantization: input ranges are determined at inference."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper


def quantize_products(graph: onnx.GraphProto, names: Collection[str], bits: int) -> None:
    """Replace matrix products of activations with weights by products of integers, in place.

    ONNX Runtime fuses the nodes of each product into one.

    Args:
        graph: a graph with floating-point weights.
        names: names of the MatMul nodes to replace.
        bits: number of bits of the signed weights, which have a scale per output channel.
    """
    constants = {constant.name: constant for constant in graph.initializer}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.name in names:
            nodes += _product(node)
            constants |= _quantized(constants.pop(node.input[1]), bits)
        else:
            nodes.append(node)
    for field, content in ((graph.node, nodes), (graph.initializer, list(constants.values()))):
        del field[:]
        field.extend(content)


def _product(node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    (x, weight), (output,) = node.input, node.output
    name = node.name

    def add(op: str, inputs: list[str], *outputs: str, **attributes: Any) -> onnx.NodeProto:
        return helper.make_node(op, inputs, outputs, name=outputs[0], **attributes)

    yield add("DynamicQuantizeLinear", [x], f"{name}.integers", f"{name}.input_scale", f"{name}.zero")
    integers = [f"{name}.integers", f"{weight}_quantized", f"{name}.zero"]
    yield add("MatMulInteger", integers, f"{name}.sums")
    yield add("Cast", [f"{name}.sums"], f"{name}.floats", to=TensorProto.FLOAT)
    yield add("Mul", [f"{name}.input_scale", f"{weight}_scale"], f"{name}.scale")
    yield add("Mul", [f"{name}.floats", f"{name}.scale"], output)


def with_float_products(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of a model that computes its products of integers with floating-point numbers.

    Some processors add two products of 8-bit integers in 16 bits, which may overflow.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        nodes += _float_product(node) if node.op_type == "MatMulInteger" else [node]
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    return copy


def _float_product(node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    x, weight, zero = node.input
    (output,) = node.output
    floats = {name: f"{output}.{role}" for role, name in (("x", x), ("weight", weight), ("zero", zero))}
    for name, converted in floats.items():
        yield helper.make_node("Cast", [name], [converted], name=converted, to=TensorProto.FLOAT)
    shifted = f"{output}.shifted"
    yield helper.make_node("Sub", [floats[x], floats[zero]], [shifted], name=shifted)
    yield helper.make_node("MatMul", [shifted, floats[weight]], [output], name=output)


def _quantized(constant: TensorProto, bits: int) -> dict[str, TensorProto]:
    """The integers and the scales of a weight of shape (inputs, outputs)."""
    weight: NDArray[np.float32] = numpy_helper.to_array(constant)
    limit = 2 ** (bits - 1) - 1
    largest = np.abs(weight).max(0)
    scale = np.where(largest > 0, largest, 1) / np.float32(limit)
    integers = np.round(weight / scale).astype(np.int8)
    arrays: dict[str, NDArray[Any]] = {
        f"{constant.name}_quantized": integers,
        f"{constant.name}_scale": scale,
    }
    return {name: numpy_helper.from_array(array, name) for name, array in arrays.items()}
