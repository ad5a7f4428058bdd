"""The bytes of an ONNX model, into which every weight is copied once.

Through protobuf's objects a weight is copied five times on its way from an array to a file, which takes
longer than all the rest. So protobuf writes everything but the weights, and they are put between its bytes as
its wire format has them (protobuf.dev, "Encoding"): a tag, a length, the content.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

Constant = NDArray[np.float32] | NDArray[np.int64]

_Pieces = list[bytes | memoryview]
"""What follows one another."""

_LENGTH_DELIMITED = 2
"""The wire type of bytes, texts and messages."""


def serialize(model: onnx.ModelProto, graph: onnx.GraphProto, constants: Mapping[str, Constant]) -> bytes:
    """The bytes of `model` with `graph`, and with `constants` as the initializers of the graph, by name."""
    content: _Pieces = [graph.SerializeToString(deterministic=True)]
    for name, values in constants.items():
        content += _field(onnx.GraphProto.INITIALIZER_FIELD_NUMBER, _tensor(name, values))
    whole = _field(onnx.ModelProto.GRAPH_FIELD_NUMBER, content)
    return b"".join([model.SerializeToString(deterministic=True), *whole])


def _tensor(name: str, values: Constant) -> _Pieces:
    header = onnx.TensorProto(
        name=name, dims=values.shape, data_type=helper.np_dtype_to_tensor_dtype(values.dtype)
    )
    little_endian = np.asarray(values, values.dtype.newbyteorder("<"), order="C")
    raw = little_endian.reshape(-1).view(np.uint8).data
    return [header.SerializeToString(), *_field(onnx.TensorProto.RAW_DATA_FIELD_NUMBER, [raw])]


def _field(number: int, content: _Pieces) -> _Pieces:
    """A field with this content, which follows in pieces."""
    return [_varint(number << 3 | _LENGTH_DELIMITED), _varint(sum(map(len, content))), *content]


def _varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first; the top bit says that more follow."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
