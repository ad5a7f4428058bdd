"""INT8 graphs from float ones: pairs of QuantizeLinear and DequantizeLinear (QDQ) around all that pays.

ONNX Runtime and other runtimes read the pairs and compute in integers between them. The scales come from
the ranges that activations have on calibration images; weights are signed and have a scale per channel.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationMethod, QuantType
from onnxruntime.quantization.calibrate import TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from nas.onnx_backend.onnx_graph import BATCH, INPUT
from search_spaces import operators as ops

Ranges = Mapping[str, tuple[float, float]]
"""Least and greatest value of every activation by the name of its tensor."""

QUANTIZED: Mapping[type[ops.Operator], tuple[str, ...]] = {
    ops.Conv2d: ("Conv",),
    ops.Linear: ("Gemm", "MatMul"),
    ops.BatchNorm: (),
    ops.LayerNorm: (),
    ops.Relu: ("Relu",),
    ops.Relu6: ("Clip",),
    ops.HardSwish: (),
    ops.Swish: ("Sigmoid", "Mul"),
    ops.Sigmoid: ("Sigmoid",),
    ops.HardSigmoid: (),
    ops.Gelu: (),
    ops.AvgPool2d: ("AveragePool",),
    ops.MaxPool2d: ("MaxPool",),
    ops.GlobalAvgPool: ("GlobalAveragePool",),
    ops.Resize: (),
    ops.Add: ("Add",),
    ops.Multiply: ("Mul",),
    ops.Concat: ("Concat",),
    ops.Slice: (),
    ops.Flatten: ("Flatten",),
}
"""Types of the ONNX nodes of every operator that are computed in integers. Conv and Gemm alone are slower
than float: the values between them would be converted again and again. HardSwish, HardSigmoid and the bicubic
Resize stay float; writing the first two as integer additions and products made whole networks only 2-6 %
faster."""


@dataclass(frozen=True)
class Scheme:
    """How activations are stored; the wrong one is several times slower, or overflows."""

    activations: QuantType
    reduce_range: bool
    """Weights of 7 bits: instructions without VNNI add pairs of products in 16 bits, which overflow."""


SCHEMES: Mapping[str, Scheme] = {
    "x86-vnni": Scheme(QuantType.QUInt8, reduce_range=False),
    "x86": Scheme(QuantType.QUInt8, reduce_range=True),
    "arm": Scheme(QuantType.QInt8, reduce_range=False),
}
"""By instruction set, see `runner.instruction_set`. Source: docs of the quantiser."""


def scheme(instruction_set: str | None) -> Scheme:
    """The scheme for a device.

    Raises:
        ValueError: its instruction set is unknown, or there is no scheme for it.
    """
    if instruction_set is None or instruction_set not in SCHEMES:
        raise ValueError(
            f"INT8 must know the device's instruction set, one of {list(SCHEMES)}, got {instruction_set}; "
            f"the option --int8-for of `nas profile` sets it"
        )
    return SCHEMES[instruction_set]


def quantize(model: onnx.ModelProto, ranges: Ranges, scheme: Scheme) -> onnx.ModelProto:
    """The model in INT8, with float input and output; `model` stays as it is.

    Args:
        model: float32, as `nas.onnx_backend.onnx_graph.build` writes it.
        ranges: of all its activations, see `calibrate` and `assumed_ranges`.
        scheme: see `SCHEMES`.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    data = {name: (np.float32(low), np.float32(high)) for name, (low, high) in ranges.items()}
    quantizer = QDQQuantizer(
        copy,
        per_channel=True,
        reduce_range=scheme.reduce_range,
        weight_qType=QuantType.QInt8,
        activation_qType=scheme.activations,
        tensors_range=TensorsData(CalibrationMethod.MinMax, data),
        nodes_to_quantize=[],
        nodes_to_exclude=[],
        op_types_to_quantize=sorted({op for types in QUANTIZED.values() for op in types}),
        extra_options={},
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    quantized: onnx.ModelProto = quantizer.model.model
    del quantized.graph.value_info[:]  # shapes that were inferred on the way
    del quantized.metadata_props[:]
    quantized.metadata_props.extend(model.metadata_props)
    quantized.producer_name = model.producer_name
    return quantized


def calibrate(model: onnx.ModelProto, batches: Iterable[NDArray[np.float32]]) -> Ranges:
    """The least and greatest value of every activation on some images.

    Args:
        model: float32.
        batches: clean training images, (n, channels, size, size) each.
    """
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    known = {output.name for output in model.graph.output}
    names = [name for node in model.graph.node for name in node.output]
    watched.graph.output.extend(
        onnx.helper.make_empty_tensor_value_info(name) for name in names if name not in known
    )
    for tensor in (*watched.graph.input, watched.graph.output[0]):
        tensor.type.tensor_type.shape.dim[0].dim_param = BATCH
    session = onnxruntime.InferenceSession(watched.SerializeToString(), providers=["CPUExecutionProvider"])
    ranges: dict[str, tuple[float, float]] = {}
    for images in batches:
        values = dict(zip(names, session.run(names, {INPUT: images}), strict=True)) | {INPUT: images}
        for name, value in values.items():
            low, high = ranges.get(name, (0.0, 0.0))  # zero must be a value that can be stored
            ranges[name] = min(low, float(value.min())), max(high, float(value.max()))
    return ranges


def assumed_ranges(model: onnx.ModelProto) -> Ranges:
    """Ranges for a graph that is only timed: as an activation has them on normalised values."""
    ranges = {node.output[0]: _ASSUMED.get(node.op_type, (-4.0, 4.0)) for node in model.graph.node}
    return ranges | {INPUT: (-4.0, 4.0)}


_ASSUMED: Mapping[str, tuple[float, float]] = {
    "Relu": (0.0, 4.0),
    "Clip": (0.0, 6.0),
    "HardSwish": (-0.375, 4.0),
    "Sigmoid": (0.0, 1.0),
    "HardSigmoid": (0.0, 1.0),
}
"""By operator; a range from zero lets the runtime drop a ReLU, as it does with calibrated ones."""
