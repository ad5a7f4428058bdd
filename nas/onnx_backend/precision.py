"""The precisions that a subnet can be deployed in."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import onnx

from nas.onnx_backend.quantize import Ranges, assumed_ranges, quantize, scheme
from search_spaces.tensors import FP16 as FP16
from search_spaces.tensors import FP32 as FP32
from search_spaces.tensors import INT8 as INT8

FindRanges = Callable[[onnx.ModelProto], Ranges]
"""Returns the ranges of the activations of a model."""


def to_fp16(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of the model in fp16, with float32 input and output."""
    from onnxruntime.transformers.float16 import convert_float_to_float16  # takes a second to import

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    converted: onnx.ModelProto = convert_float_to_float16(copy, keep_io_types=True)
    return converted


_CONVERT: Mapping[str, Callable[[onnx.ModelProto, str | None, FindRanges], onnx.ModelProto]] = {
    FP32: lambda model, instruction_set, ranges: model,
    FP16: lambda model, instruction_set, ranges: to_fp16(model),
    INT8: lambda model, instruction_set, ranges: quantize(model, ranges(model), scheme(instruction_set)),
}

PRECISIONS = tuple(_CONVERT)


def convert(
    model: onnx.ModelProto,
    precision: str,
    instruction_set: str | None,
    ranges: FindRanges = assumed_ranges,
) -> onnx.ModelProto:
    """Convert a model to another precision.

    Args:
        model: a float32 model, as returned by `nas.onnx_backend.onnx_graph.build`.
        precision: one of `PRECISIONS`.
        instruction_set: instruction set of the device, see
            `hw_profiles.measuring.runner.device_description.instruction_set`; used for INT8 only.
        ranges: returns the ranges of the activations; used for INT8 only. The default is for models whose
            latency is measured and whose outputs are not used.

    Raises:
        ValueError: unknown precision, or no INT8 scheme for the instruction set.
    """
    check_precision(precision)
    return _CONVERT[precision](model, instruction_set, ranges)


def check_precision(precision: str) -> None:
    """Check that `precision` is one of `PRECISIONS`.

    Raises:
        ValueError: it is not.
    """
    if precision not in _CONVERT:
        raise ValueError(f"precision must be one of {list(PRECISIONS)}, got {precision!r}")
