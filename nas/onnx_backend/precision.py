"""The precisions that a subnet can be deployed in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import onnx

from nas.onnx_backend.quantize import Ranges, assumed_ranges, quantize, scheme
from search_spaces import Block
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


def to_int8(
    model: onnx.ModelProto, blocks: Sequence[Block], instruction_set: str | None, ranges: FindRanges
) -> onnx.ModelProto:
    """A copy of the model in INT8; arguments as in `convert`."""
    int8 = scheme(instruction_set)  # before the ranges, which take time to find
    return quantize(model, blocks, ranges(model), int8)


_CONVERT: Mapping[
    str, Callable[[onnx.ModelProto, Sequence[Block], str | None, FindRanges], onnx.ModelProto]
] = {
    FP32: lambda model, blocks, instruction_set, ranges: model,
    FP16: lambda model, blocks, instruction_set, ranges: to_fp16(model),
    INT8: to_int8,
}

PRECISIONS = tuple(_CONVERT)


def convert(
    model: onnx.ModelProto,
    blocks: Sequence[Block],
    precision: str,
    instruction_set: str | None,
    ranges: FindRanges = assumed_ranges,
) -> onnx.ModelProto:
    """Convert a model to another precision.

    Args:
        model: a float32 model, as returned by `nas.onnx_backend.onnx_graph.build`.
        blocks: the blocks of the model.
        precision: one of `PRECISIONS`.
        instruction_set: instruction set of the device, see
            `hw_profiles.measuring.runner.device_description.instruction_set`; used for INT8 only.
        ranges: returns the ranges of the activations; used for INT8 only. The default is for models whose
            latency is measured and whose outputs are not used.

    Raises:
        ValueError: unknown precision, or no INT8 scheme for the instruction set.
    """
    check_precision(precision)
    return _CONVERT[precision](model, blocks, instruction_set, ranges)


def check_precision(precision: str) -> None:
    """Check that `precision` is one of `PRECISIONS`.

    Raises:
        ValueError: it is not.
    """
    if precision not in _CONVERT:
        raise ValueError(f"precision must be one of {list(PRECISIONS)}, got {precision!r}")
