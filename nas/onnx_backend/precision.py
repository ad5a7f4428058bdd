"""The precisions that a subnet can be deployed in."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import onnx

from nas.onnx_backend.quantize import Ranges, assumed_ranges, quantize, scheme

FP32, FP16, INT8 = "fp32", "fp16", "int8"
FindRanges = Callable[[onnx.ModelProto], Ranges]


def half(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model in fp16, with float32 input and output; `model` stays as it is."""
    from onnxruntime.transformers.float16 import convert_float_to_float16  # takes a second to import

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    converted: onnx.ModelProto = convert_float_to_float16(copy, keep_io_types=True)
    return converted


_CONVERT: Mapping[str, Callable[[onnx.ModelProto, str | None, FindRanges], onnx.ModelProto]] = {
    FP32: lambda model, instruction_set, ranges: model,
    FP16: lambda model, instruction_set, ranges: half(model),
    INT8: lambda model, instruction_set, ranges: quantize(model, ranges(model), scheme(instruction_set)),
}

PRECISIONS = tuple(_CONVERT)


def convert(
    model: onnx.ModelProto,
    precision: str,
    instruction_set: str | None,
    ranges: FindRanges = assumed_ranges,
) -> onnx.ModelProto:
    """The model in another precision.

    Args:
        model: float32, as `nas.onnx_backend.onnx_graph.build` writes it.
        precision: one of `PRECISIONS`.
        instruction_set: of the device, see `runner.instruction_set`; only INT8 reads it.
        ranges: finds those of the activations, which only INT8 asks for; by default what serves a graph that
            is timed and not used.

    Raises:
        ValueError: no such precision, or no INT8 scheme for the instruction set.
    """
    check_precision(precision)
    return _CONVERT[precision](model, instruction_set, ranges)


def check_precision(precision: str) -> None:
    """Refuse an unknown precision.

    Raises:
        ValueError: it is none of `PRECISIONS`.
    """
    if precision not in _CONVERT:
        raise ValueError(f"precision must be one of {list(PRECISIONS)}, got {precision!r}")
