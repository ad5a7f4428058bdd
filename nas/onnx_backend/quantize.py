"""INT8 quantization of ONNX models. Weights are signed and have a scale per channel.

Feature maps and vectors are quantized in the QDQ format, with pairs of QuantizeLinear and DequantizeLinear
nodes. Runtimes such as ONNX Runtime compute the nodes between these pairs with integers. The scales of
activations follow from their ranges on calibration images.

Tokens stay in floating point, because layer norm, softmax and GELU are not computed with integers. Only the
matrix products of linear layers on tokens are computed with integers; the ranges of their inputs are
determined at inference (`Scheme.tokens`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationMethod, QuantType
from onnxruntime.quantization.calibrate import TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from nas.onnx_backend.borders import separate_floats
from nas.onnx_backend.calibrate import Ranges
from nas.onnx_backend.dynamic_products import quantize_products
from nas.onnx_backend.graph_writer import tensor_name
from nas.onnx_backend.onnx_graph import INPUT
from search_spaces import Block, Node
from search_spaces import operators as ops
from search_spaces.graph import chain, fold_batch_norms
from search_spaces.tensors import INT8

QUANTIZED: Mapping[type[ops.Operator], tuple[str, ...]] = {
    ops.Conv2d: ("Conv",),
    ops.Linear: ("Gemm", "MatMul"),
    ops.BatchNorm: (),
    ops.LayerNorm: (),
    ops.GroupNorm: (),
    ops.Scale: (),
    ops.Relu: ("Relu",),
    ops.Relu6: ("Clip",),
    ops.HardSwish: (),
    ops.Swish: ("Sigmoid", "Mul"),
    ops.Sigmoid: ("Sigmoid",),
    ops.HardSigmoid: (),
    ops.Gelu: (),
    ops.GeluTanh: (),
    ops.Mish: (),
    ops.LeakyRelu: ("LeakyRelu",),
    ops.PRelu: (),
    ops.Elu: (),
    ops.Tanh: (),
    ops.Arithmetic: (),
    ops.ChannelArithmetic: (),
    ops.AvgPool2d: ("AveragePool",),
    ops.MaxPool2d: ("MaxPool",),
    ops.GlobalAvgPool: ("GlobalAveragePool",),
    ops.GlobalMaxPool: (),
    ops.AdaptiveAvgPool2d: ("GlobalAveragePool", "AveragePool"),
    ops.Resize: (),
    ops.Add: ("Add",),
    ops.Subtract: (),
    ops.Multiply: ("Mul",),
    ops.Concat: ("Concat",),
    ops.Slice: (),
    ops.ChannelShuffle: (),
    ops.ChannelsLast: (),
    ops.ChannelsFirst: (),
    ops.Flatten: ("Flatten",),
    ops.ToPixel: (),
    ops.Convert: (),
    ops.ImageToTokens: (),
    ops.TokensToImage: (),
    ops.PrependTokens: (),
    ops.AddPositions: (),
    ops.Attention: (),
    ops.WindowAttention: (),
    ops.MergeTokens: (),
    ops.TakeToken: (),
    ops.MeanTokens: (),
}
"""For every operator, the types of its ONNX nodes that are quantized; on tokens, only matrix products are.

If only Conv and Gemm were quantized, a convolutional network would be slower than in floating point, because
the values between these nodes would be converted each time. HardSwish, HardSigmoid and the bicubic Resize are
not quantized; writing the first two as integer additions and products made networks only 2-6 % faster."""


@dataclass(frozen=True)
class Scheme:
    """Quantization scheme; with a scheme for another device, networks are several times slower or
    overflow."""

    activations: QuantType
    reduce_range: bool
    """Use 7 bits for weights, because processors without VNNI add two products in 16 bits, which may
    overflow."""
    tokens: Literal["dynamic", "static"] = "dynamic"
    """Ranges of tokens: determined for each batch at inference (`dynamic`) or on the calibration images
    (`static`). `dynamic` is faster, see docs/transformers.md, and does not depend on the calibration
    images."""


SCHEMES: Mapping[str, Scheme] = {
    "x86-vnni": Scheme(QuantType.QUInt8, reduce_range=False),
    "x86": Scheme(QuantType.QUInt8, reduce_range=True),
    "arm": Scheme(QuantType.QInt8, reduce_range=False),
}
"""Schemes by instruction set, see `hw_profiles.measuring.runner.device_description.instruction_set`. Source:
ONNX Runtime's documentation, "Quantize ONNX models"."""


def scheme(instruction_set: str | None) -> Scheme:
    """The scheme for a device with this instruction set.

    Raises:
        ValueError: the instruction set is None, or there is no scheme for it.
    """
    if instruction_set is None or instruction_set not in SCHEMES:
        raise ValueError(
            f"INT8 needs the instruction set of the device, one of {list(SCHEMES)}, got {instruction_set}; "
            f"set it with the option --int8-for of `nas profile`"
        )
    return SCHEMES[instruction_set]


def quantize(
    model: onnx.ModelProto, blocks: Sequence[Block], ranges: Ranges, scheme: Scheme
) -> onnx.ModelProto:
    """Quantize the INT8 nodes of a model.

    Values are converted where a floating-point node reads the output of an INT8 node or the reverse. All
    other values that floating-point nodes read are not rounded.

    Args:
        model: a float32 model, as returned by `nas.onnx_backend.onnx_graph.build`.
        blocks: the blocks of the model, whose specs have the precision of each node.
        ranges: ranges of all activations, see `nas.onnx_backend.calibrate` and `assumed_ranges`.
        scheme: the quantization scheme, one of `SCHEMES`.

    Returns:
        a quantized copy of the model, with float32 input and output.
    """
    owners = list(_owners(model, blocks))
    in_float = {node.name: owner for node, owner in owners if owner.output.precision != INT8}
    nodes = [(node.name, owner) for node, owner in owners if _is_quantized(node, owner)]
    dynamic = {name for name, owner in nodes if _is_of_tokens(owner) and scheme.tokens == "dynamic"}
    quantized = _quantize_static(model, [name for name, _ in nodes if name not in dynamic], ranges, scheme)
    separate_floats(quantized.graph, in_float)
    quantize_products(quantized.graph, dynamic, bits=7 if scheme.reduce_range else 8)
    del quantized.graph.value_info[:]  # shapes inferred by the quantizer
    del quantized.metadata_props[:]
    quantized.metadata_props.extend(model.metadata_props)
    quantized.producer_name = model.producer_name
    return quantized


def _owners(model: onnx.ModelProto, blocks: Sequence[Block]) -> Iterator[tuple[onnx.NodeProto, Node]]:
    """Each ONNX node with the node of the blocks that it belongs to."""
    block, _ = fold_batch_norms(chain(blocks))
    owners = {node.path: node for node in block.nodes}
    owners |= {tensor_name(block, i): node for i, node in enumerate(block.nodes)}
    for node in model.graph.node:
        name = node.name
        while name not in owners:
            name = name.rpartition(".")[0]
        yield node, owners[name]


def _is_quantized(node: onnx.NodeProto, owner: Node) -> bool:
    return (
        owner.output.precision == INT8
        and node.op_type in QUANTIZED[type(owner.op)]
        and (node.op_type == "MatMul" or not _is_of_tokens(owner))
    )


def _is_of_tokens(owner: Node) -> bool:
    return owner.output.layout == "tokens"


def _quantize_static(
    model: onnx.ModelProto, names: list[str], ranges: Ranges, scheme: Scheme
) -> onnx.ModelProto:
    """Quantize the nodes with these names in the QDQ format."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    if not names:  # the quantizer reads an empty list as all names
        return copy
    data = {name: (np.float32(low), np.float32(high)) for name, (low, high) in ranges.items()}
    quantizer = QDQQuantizer(
        copy,
        per_channel=True,
        reduce_range=scheme.reduce_range,
        weight_qType=QuantType.QInt8,
        activation_qType=scheme.activations,
        tensors_range=TensorsData(CalibrationMethod.MinMax, data),
        nodes_to_quantize=names,
        nodes_to_exclude=[],
        op_types_to_quantize=sorted({op for types in QUANTIZED.values() for op in types}),
        extra_options={},
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    quantized: onnx.ModelProto = quantizer.model.model
    return quantized


def assumed_ranges(model: onnx.ModelProto) -> Ranges:
    """Typical ranges on normalized inputs, for models whose latency is measured."""
    ranges = {node.output[0]: _ASSUMED.get(node.op_type, (-4.0, 4.0)) for node in model.graph.node}
    return ranges | {INPUT: (-4.0, 4.0)}


_ASSUMED: Mapping[str, tuple[float, float]] = {
    "Relu": (0.0, 4.0),
    "Clip": (0.0, 6.0),
    "HardSwish": (-0.375, 4.0),
    "Sigmoid": (0.0, 1.0),
    "HardSigmoid": (0.0, 1.0),
}
"""Typical ranges by type of node. The range of a ReLU starts at zero, as calibrated ranges do, so that the
runtime can remove the ReLU."""
