"""The precision that a model asks for in each of its convolutions and matrix products."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import onnx

from hw_profiles.measuring.bundle import LayerPrecision

_WEIGHTED = ("Conv", "Gemm", "MatMul")
_FUSED = ("Relu", "Clip", "LeakyRelu", "Sigmoid", "HardSigmoid", "Tanh", "HardSwish", "Elu")
"""Activations that ONNX Runtime computes together with the convolution before them, under their own name."""


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
            fused = _fused(readers.get(node.output[0], ()))
            layers.append(LayerPrecision(names=(node.name, *fused), integers=bool(integers)))
    return tuple(layers)


def _fused(readers: Sequence[onnx.NodeProto]) -> Iterator[str]:
    if len(readers) == 1 and readers[0].op_type in _FUSED:
        yield readers[0].name
