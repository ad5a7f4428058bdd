"""Collects the nodes and constants of an ONNX graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from nas.onnx_backend import onnx_file
from search_spaces import Block, Node
from search_spaces import operators as ops

Weights = Mapping[str, NDArray[np.float32]]
"""Arrays by their names in `nas.torch_backend.static.StaticNet`, such as `stem.conv.norm.running_mean`."""

OPSET = 18
"""The newest opset that all releases of ONNX Runtime since 1.14 support, including those for phones."""
INPUT, LOGITS, FEATURES = "input", "logits", "output"
BATCH = "batch"
"""Name of the batch dimension if it is dynamic."""


def fold_batch_norm(
    node: Node, norm: Node | None, weights: Weights
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """Fold a batch norm into the convolution or linear layer before it.

    Args:
        node: the convolution or linear layer.
        norm: the batch norm; None: the weights of `node` are returned as they are.
        weights: weights of both nodes by name.

    Returns:
        the weight, and the bias of shape (c_out,), or None if there is no bias.
    """
    weight, bias = weights[f"{node.path}.weight"], weights.get(f"{node.path}.bias")
    if norm is None:
        return weight, bias
    assert isinstance(norm.op, ops.BatchNorm)
    gamma, beta, mean, var = (
        weights[f"{norm.path}.{part}"].astype(np.float64)
        for part in ("weight", "bias", "running_mean", "running_var")
    )
    scale = gamma / np.sqrt(var + norm.op.eps)
    shift = beta + ((0.0 if bias is None else bias) - mean) * scale
    per_channel = scale.astype(np.float32).reshape(-1, *(1,) * (weight.ndim - 1))
    return weight * per_channel, shift.astype(np.float32)


def tensor_name(block: Block, index: int) -> str:
    """Name of the output of the node `index`, or of an input of the block if `index` is negative."""
    if index < 0:
        return _numbered(INPUT, -1 - index)
    if index in block.outputs:
        vector = block.spec(index).layout == "vector"
        return _numbered(LOGITS if vector else FEATURES, block.outputs.index(index))
    return block.nodes[index].path


class GraphWriter:
    """Collects the nodes and constants of an ONNX graph."""

    def __init__(self, block: Block, weights: Weights, norms: Mapping[str, Node], batch: int | str) -> None:
        self.block, self.weights, self.norms, self.batch = block, weights, norms, batch
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx_file.Constant] = {}

    def tensor(self, index: int) -> str:
        """Name of the output of the node `index`, or of an input of the block if `index` is negative."""
        return tensor_name(self.block, index)

    def node(self, op: str, inputs: Sequence[str], output: str, **attributes: Any) -> None:
        """Add a node. Its name is the name of its output, which must begin with the path of the operator's
        node."""
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))

    def split(self, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> None:
        """Add a Split node; it has the name of its first output."""
        self.nodes.append(helper.make_node("Split", inputs, outputs, name=outputs[0], **attributes))

    def constant(self, name: str, values: onnx_file.Constant) -> str:
        """Add a constant; returns its name."""
        self.constants[name] = values
        return name

    def parameters(self, node: Node) -> list[str]:
        """Add the weight and bias, if any, of a convolution or linear layer; returns their names."""
        weight, bias = fold_batch_norm(node, self.norms.get(node.path), self.weights)
        names = [self.constant(f"{node.path}.weight", weight)]
        return names if bias is None else [*names, self.constant(f"{node.path}.bias", bias)]

    def unfolded_parameters(self, node: Node, *names: str) -> list[str]:
        """Add parameters of a node without folding; returns the names of the constants."""
        return [self.constant(f"{node.path}.{name}", self.weights[f"{node.path}.{name}"]) for name in names]

    def serialize(self, metadata: Mapping[str, str]) -> bytes:
        """The model as bytes."""

        def info(index: int) -> onnx.ValueInfoProto:
            shape = (self.batch, *self.block.spec(index).shape)
            return helper.make_tensor_value_info(self.tensor(index), TensorProto.FLOAT, shape)

        inputs = [info(-1 - i) for i in range(len(self.block.inputs))]
        graph = helper.make_graph(self.nodes, "subnet", inputs, [info(index) for index in self.block.outputs])
        opset = helper.make_opsetid("", OPSET)
        # lowest IR version with this opset, as released runtimes cannot read the default of the onnx package
        model = onnx.ModelProto(
            ir_version=helper.find_min_ir_version_for([opset]),
            opset_import=[opset],
            producer_name="elastic-nas",
        )
        helper.set_model_props(model, dict(metadata))
        return onnx_file.serialize(model, graph, self.constants)


def _numbered(name: str, position: int) -> str:
    return f"{name}.{position}" if position else name
