"""The precisions in which a subnet can be deployed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import onnx

from nas.onnx_backend.calibrate import Ranges
from nas.onnx_backend.quantize import assumed_ranges, quantize, scheme
from search_spaces import Block, Space
from search_spaces.arch import Arch
from search_spaces.block_precision import in_precision
from search_spaces.precision_space import PrecisionSpace, float_arch, space_of
from search_spaces.tensors import FP16 as FP16
from search_spaces.tensors import FP32 as FP32
from search_spaces.tensors import INT8 as INT8
from search_spaces.tensors import MIXED as MIXED
from search_spaces.tensors import Precision

FindRanges = Callable[[onnx.ModelProto], Ranges]
"""Returns the ranges of the activations of a model."""

_UNIFORM: Mapping[str, Precision] = {name: name for name in (FP32, FP16, INT8)}
PRECISIONS = (*_UNIFORM, MIXED)
"""Precisions of a file. In `MIXED`, each block has the precision that the arch chooses."""


def blocks_in(space: Space, arch: Arch, precision: str) -> tuple[Block, ...]:
    """The blocks of a subnet in the precision of its deployment.

    Args:
        space: the space of the subnet, with or without the precision as a choice.
        arch: the subnet; if it chooses precisions, they are used for `MIXED` only.
        precision: one of `PRECISIONS`.

    Raises:
        ValueError: the precision is unknown, or it is `MIXED` and the arch chooses no precisions.
    """
    check_precision(precision)
    if precision in _UNIFORM:
        return uniform_blocks(float_blocks(space, arch), _UNIFORM[precision])
    own = space_of(space, arch)
    if not isinstance(own, PrecisionSpace):
        raise ValueError(
            f"precision {MIXED} needs a subnet that chooses the precision of its blocks, {arch.id} does "
            f"not; use {FP32}, {FP16} or {INT8}, or search for a device with a profile made by "
            f"`nas profile {space.source} --device NAME --precision {MIXED}`"
        )
    return tuple(own.blocks(arch))


def float_blocks(space: Space, arch: Arch) -> tuple[Block, ...]:
    """The blocks of a subnet in fp32; precisions that `arch` chooses are ignored."""
    float_one = float_arch(space, arch)
    return tuple(space_of(space, float_one).blocks(float_one))


def uniform_blocks(blocks: Sequence[Block], precision: Precision) -> tuple[Block, ...]:
    """Blocks without borders, all in one precision."""
    return tuple(in_precision(block, precision) for block in blocks)


def convert(
    model: onnx.ModelProto,
    blocks: Sequence[Block],
    instruction_set: str | None,
    ranges: FindRanges = assumed_ranges,
) -> onnx.ModelProto:
    """Convert a model to the precisions of its blocks.

    Args:
        model: a float32 model of these blocks, as returned by `nas.onnx_backend.onnx_graph.build`; it is the
            same with and without borders between precisions.
        blocks: the blocks, whose specs have the precision of each node; FP16 is possible only for all nodes.
        instruction_set: instruction set of the device, see
            `hw_profiles.measuring.runner.device_description.instruction_set`; used for INT8 only.
        ranges: returns the ranges of the activations; used for INT8 only. The default is for models whose
            latency is measured and whose outputs are not used.

    Raises:
        ValueError: there is no INT8 scheme for the instruction set.
    """
    precisions = {node.output.precision for block in blocks for node in block.nodes}
    if FP16 in precisions:
        assert len(precisions) == 1, "no runtime here mixes FP16 with other precisions"
        return to_fp16(model)
    if INT8 in precisions:
        int8 = scheme(instruction_set)  # before the ranges, which take time to find
        return quantize(model, blocks, ranges(model), int8)
    return model


def to_fp16(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of the model in fp16, with float32 input and output."""
    from onnxruntime.transformers.float16 import convert_float_to_float16  # takes a second to import

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    converted: onnx.ModelProto = convert_float_to_float16(copy, keep_io_types=True)
    return converted


def check_precision(precision: str) -> None:
    """Check that `precision` is one of `PRECISIONS`.

    Raises:
        ValueError: the precision is unknown.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {list(PRECISIONS)}, got {precision!r}")
