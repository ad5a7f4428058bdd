"""Serialization of an ONNX model that copies every weight only once.

With protobuf's objects, a weight is copied five times between the array and the file, which takes most of the
time of an export. Here, protobuf serializes everything except the weights. The weights are inserted as fields
in its wire format (protobuf.dev, "Encoding"): a tag, a length and the content.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

Constant = NDArray[np.float32] | NDArray[np.int32] | NDArray[np.int64]

_Pieces = list[bytes | memoryview]
"""Consecutive parts of the serialized model."""

_LENGTH_DELIMITED = 2
"""Wire type of bytes, strings and messages."""


def serialize(model: onnx.ModelProto, graph: onnx.GraphProto, constants: Mapping[str, Constant]) -> bytes:
    """Serialize a model.

    Args:
        model: the model without a graph.
        graph: the graph without initializers.
        constants: the initializers of the graph by name.
    """
    content: _Pieces = [graph.SerializeToString(deterministic=True)]
    for name, values in constants.items():
        content += _field(onnx.GraphProto.INITIALIZER_FIELD_NUMBER, _tensor(name, values))
    graph_field = _field(onnx.ModelProto.GRAPH_FIELD_NUMBER, content)
    return b"".join([model.SerializeToString(deterministic=True), *graph_field])


def _tensor(name: str, values: Constant) -> _Pieces:
    header = onnx.TensorProto(
        name=name, dims=values.shape, data_type=helper.np_dtype_to_tensor_dtype(values.dtype)
    )
    little_endian = np.asarray(values, values.dtype.newbyteorder("<"), order="C")
    raw = little_endian.reshape(-1).view(np.uint8).data
    return [header.SerializeToString(), *_field(onnx.TensorProto.RAW_DATA_FIELD_NUMBER, [raw])]


def _field(number: int, content: _Pieces) -> _Pieces:
    """A field of a message: its tag, the length of `content`, and `content`."""
    return [_varint(number << 3 | _LENGTH_DELIMITED), _varint(sum(map(len, content))), *content]


def _varint(value: int) -> bytes:
    """Encode an integer with seven bits per byte, lowest first; the top bit is set if more bytes follow."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
