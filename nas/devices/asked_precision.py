"""The precision that a model requests for each of its convolutions and matrix products."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

import onnx

from hw_profiles.measuring.bundle import LayerPrecision

_WEIGHTED = ("Conv", "Gemm", "MatMul")
_FUSED = ("Relu", "Clip", "LeakyRelu", "Sigmoid", "HardSigmoid", "Tanh", "HardSwish", "Elu")
"""Activations that ONNX Runtime fuses with the convolution before them; the fused node has the activation's
name."""
_WITH_CONSTANT = ("Add", "Mul")
"""Nodes that ONNX Runtime folds into the weights of the convolution before them if their other input is a
constant."""


def layer_precisions(model: onnx.ModelProto) -> tuple[LayerPrecision, ...]:
    """The precision of each convolution and of each product with a weight.

    Products of two activations, as in attention, are not included.
    """
    constants = {constant.name for constant in model.graph.initializer}
    dequantized = {
        node.output[0]
        for node in model.graph.node
        if node.op_type == "DequantizeLinear" and node.input[0] in constants
    }
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    layers = []
    for node in model.graph.node:
        integers = node.op_type == "MatMulInteger" or (node.input[1:2] and node.input[1] in dequantized)
        if integers or (node.op_type in _WEIGHTED and node.input[1] in constants):
            fused = _fused(node, readers, constants)
            layers.append(LayerPrecision(names=(node.name, *fused), integers=bool(integers)))
    return tuple(layers)


def _fused(
    node: onnx.NodeProto, readers: Mapping[str, Sequence[onnx.NodeProto]], constants: Collection[str]
) -> Iterator[str]:
    """Names of the nodes that ONNX Runtime may fuse with a convolution, in the order of the graph."""
    while len(following := readers.get(node.output[0], ())) == 1 and node.op_type not in _FUSED:
        before, (node,) = node.output[0], following
        with_constant = all(name == before or name in constants for name in node.input)
        if node.op_type not in _FUSED and not (node.op_type in _WITH_CONSTANT and with_constant):
            return
        yield node.name
