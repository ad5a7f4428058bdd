"""Conversion of blocks and weights to an ONNX graph with the nodes and outputs of torch's exporter.

It takes milliseconds instead of the seconds of torch's exporter. Single blocks can be converted too, so that
a latency table measures exactly the nodes that are deployed later.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from nas.onnx_backend import onnx_file
from search_spaces import Block, Node
from search_spaces import operators as ops
from search_spaces.graph import chain, fold_batch_norms

Weights = Mapping[str, NDArray[np.float32]]
"""Arrays by their names in `nas.torch_backend.static.StaticNet`, such as `stem.conv.norm.running_mean`."""

OPSET = 18
"""The newest opset that all releases of ONNX Runtime since 1.14 support, including those for phones."""
INPUT, LOGITS, FEATURES = "input", "logits", "output"
BATCH = "batch"
"""Name of the batch dimension if it is dynamic."""


def build(
    blocks: Sequence[Block],
    weights: Weights,
    *,
    batch: int | None = 1,
    metadata: Mapping[str, str] | None = None,
) -> onnx.ModelProto:
    """As `serialize`, but returns the model as an object."""
    return onnx.load_from_string(serialize(blocks, weights, batch=batch, metadata=metadata))


def serialize(
    blocks: Sequence[Block],
    weights: Weights,
    *,
    batch: int | None = 1,
    metadata: Mapping[str, str] | None = None,
) -> bytes:
    """Serialize a network or a part of it as an ONNX model with batch norms folded into convolutions.

    The input is named `input` and has the type float32 and the shape (batch, *spec.shape); further inputs are
    named `input.1`, `input.2` and so on. The output is named `logits` if it is a vector, otherwise `output`;
    further outputs are numbered in the same way.

    Args:
        blocks: the blocks in order.
        weights: weights as returned by `StaticNet.weights` or `random_weights`; may contain more than needed.
        batch: batch size; None: a dynamic dimension.
        metadata: strings stored in the model, by key.
    """
    block, norms = fold_batch_norms(chain(blocks))
    graph = _Graph(block, weights, norms, BATCH if batch is None else batch)
    for i, node in enumerate(block.nodes):
        NODES[type(node.op)](graph, node, [graph.tensor(j) for j in node.inputs], graph.tensor(i))
    return graph.serialize(metadata or {})


def random_weights(blocks: Sequence[Block], rng: np.random.Generator) -> dict[str, NDArray[np.float32]]:
    """Random weights for a graph whose latency is measured.

    They are normal with variance 2 / fan-in (He et al. 2015), so that activations keep their scale and the
    latency is not increased by denormal numbers.

    Returns:
        arrays by name, for all parameters of `blocks`.
    """
    weights: dict[str, NDArray[np.float32]] = {}
    for node in (node for block in blocks for node in block.nodes):
        for name, parameter in node.parameters.items():
            shape = parameter.shape
            if len(shape) > 1:
                scale = np.float32(np.sqrt(2 / np.prod(shape[1:])))
                values = rng.standard_normal(shape, dtype=np.float32) * scale
            else:
                values = np.full(shape, name in ("weight", "running_var"), np.float32)
            weights[f"{node.path}.{name}"] = values
    return weights


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


class _Graph:
    """Collects the nodes and constants of an ONNX graph."""

    def __init__(self, block: Block, weights: Weights, norms: Mapping[str, Node], batch: int | str) -> None:
        self.block, self.weights, self.norms, self.batch = block, weights, norms, batch
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx_file.Constant] = {}

    def tensor(self, index: int) -> str:
        """Name of the output of the node `index`, or of an input of the block if `index` is negative."""
        if index < 0:
            return _numbered(INPUT, -1 - index)
        if index in self.block.outputs:
            position = self.block.outputs.index(index)
            vector = self.block.spec(index).layout == "vector"
            return _numbered(LOGITS if vector else FEATURES, position)
        return self.block.nodes[index].path

    def node(self, op: str, inputs: Sequence[str], output: str, **attributes: Any) -> None:
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))

    def constant(self, name: str, values: onnx_file.Constant) -> str:
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
        def info(index: int) -> onnx.ValueInfoProto:
            shape = (self.batch, *self.block.spec(index).shape)
            return helper.make_tensor_value_info(self.tensor(index), TensorProto.FLOAT, shape)

        inputs = [info(-1 - i) for i in range(len(self.block.inputs))]
        graph = helper.make_graph(self.nodes, "subnet", inputs, [info(index) for index in self.block.outputs])
        opset = helper.make_opsetid("", OPSET)
        # the lowest IR version with this opset: released runtimes cannot read the default of the onnx package
        model = onnx.ModelProto(
            ir_version=helper.find_min_ir_version_for([opset]),
            opset_import=[opset],
            producer_name="elastic-nas",
        )
        helper.set_model_props(model, dict(metadata))
        return onnx_file.serialize(model, graph, self.constants)


def _numbered(name: str, position: int) -> str:
    return f"{name}.{position}" if position else name


Write = Callable[[_Graph, Node, list[str], str], None]
"""Adds the ONNX nodes of an operator: (graph, node, names of its inputs, name of its output)."""


def _conv(graph: _Graph, node: Node, inputs: list[str], output: str) -> None:
    op = node.op
    assert isinstance(op, ops.Conv2d)
    optional = {} if op.dilation == (1, 1) else {"dilations": list(op.dilation)}
    graph.node(
        "Conv",
        [*inputs, *graph.parameters(node)],
        output,
        kernel_shape=list(op.kernel),
        strides=list(op.stride),
        pads=list(op.padding),
        group=op.groups,
        **optional,
    )


def _linear(graph: _Graph, node: Node, inputs: list[str], output: str) -> None:
    if node.specs[0].layout == "vector":
        graph.node("Gemm", [*inputs, *graph.parameters(node)], output, transB=1)
        return
    weight, bias = fold_batch_norm(node, graph.norms.get(node.path), graph.weights)
    product = output if bias is None else f"{node.path}.product"
    graph.node("MatMul", [*inputs, graph.constant(f"{node.path}.weight", weight.T.copy())], product)
    if bias is not None:
        graph.node("Add", [product, graph.constant(f"{node.path}.bias", bias)], output)


def _batch_norm(graph: _Graph, node: Node, inputs: list[str], output: str) -> None:
    assert isinstance(node.op, ops.BatchNorm)
    constants = graph.unfolded_parameters(node, "weight", "bias", "running_mean", "running_var")
    graph.node("BatchNormalization", [*inputs, *constants], output, epsilon=node.op.eps)


def _layer_norm(graph: _Graph, node: Node, inputs: list[str], output: str) -> None:
    assert isinstance(node.op, ops.LayerNorm)
    constants = graph.unfolded_parameters(node, "weight", "bias")
    graph.node("LayerNormalization", [*inputs, *constants], output, axis=-1, epsilon=node.op.eps)


def _plain(op: str, **attributes: Any) -> Write:
    return lambda graph, node, inputs, output: graph.node(op, inputs, output, **attributes)


def _window(node: Node) -> dict[str, Any]:
    """Attributes of a pooling node."""
    op = node.op
    assert isinstance(op, ops.Pool2d)
    return {
        "kernel_shape": [op.kernel] * 2,
        "strides": [op.stride] * 2,
        "pads": [op.padding] * 4,
        "ceil_mode": int(op.ceil_mode(node.specs[0])),
    }


def _avg_pool(graph: _Graph, node: Node, inputs: list[str], output: str) -> None:
    window = _window(node)
    graph.node("AveragePool", inputs, output, count_include_pad=int(any(window["pads"])), **window)


def _max_pool(graph: _Graph, node: Node, inputs: list[str], output: str) -> None:
    graph.node("MaxPool", inputs, output, **_window(node))


def _resize(graph: _Graph, node: Node, inputs: list[str], output: str) -> None:
    if node.output.size == node.specs[0].size:
        graph.node("Identity", inputs, output)
        return
    size = graph.constant(f"{node.path}.size", np.array(node.output.size))
    graph.node("Resize", [*inputs, "", "", size], output, mode="cubic", cubic_coeff_a=-0.75, axes=[2, 3])


def _relu6(graph: _Graph, node: Node, inputs: list[str], output: str) -> None:
    limits = [
        graph.constant(f"{output}.{name}", np.array(value, np.float32))
        for name, value in (("min", 0.0), ("max", 6.0))
    ]
    graph.node("Clip", [*inputs, *limits], output)


def _swish(graph: _Graph, node: Node, inputs: list[str], output: str) -> None:
    graph.node("Sigmoid", inputs, f"{output}.gate")
    graph.node("Mul", [*inputs, f"{output}.gate"], output)


def _gelu(graph: _Graph, node: Node, inputs: list[str], output: str) -> None:
    """x / 2 · (1 + erf(x / √2)); opset 18 has no Gelu node."""
    root = graph.constant(f"{output}.root", np.array(np.sqrt(0.5), np.float32))
    one, half = (
        graph.constant(f"{output}.{n}", np.array(v, np.float32)) for n, v in (("one", 1), ("half", 0.5))
    )
    graph.node("Mul", [*inputs, root], f"{output}.scaled")
    graph.node("Erf", [f"{output}.scaled"], f"{output}.erf")
    graph.node("Add", [f"{output}.erf", one], f"{output}.gate")
    graph.node("Mul", [*inputs, f"{output}.gate"], f"{output}.double")
    graph.node("Mul", [f"{output}.double", half], output)


def _channel_axis(node: Node) -> int:
    return 2 if node.specs[0].layout == "tokens" else 1


def _concat(graph: _Graph, node: Node, inputs: list[str], output: str) -> None:
    graph.node("Concat", inputs, output, axis=_channel_axis(node))


def _slice(graph: _Graph, node: Node, inputs: list[str], output: str) -> None:
    assert isinstance(node.op, ops.Slice)
    values = {"start": node.op.start, "end": node.op.end, "axis": _channel_axis(node)}
    names = [graph.constant(f"{node.path}.{name}", np.array([value])) for name, value in values.items()]
    graph.node("Slice", [*inputs, *names], output)


NODES: Mapping[type[ops.Operator], Write] = {
    ops.Conv2d: _conv,
    ops.Linear: _linear,
    ops.BatchNorm: _batch_norm,
    ops.LayerNorm: _layer_norm,
    ops.Relu: _plain("Relu"),
    ops.Relu6: _relu6,
    ops.HardSwish: _plain("HardSwish"),
    ops.Swish: _swish,
    ops.Sigmoid: _plain("Sigmoid"),
    ops.HardSigmoid: _plain("HardSigmoid", alpha=1 / 6, beta=0.5),
    ops.Gelu: _gelu,
    ops.AvgPool2d: _avg_pool,
    ops.MaxPool2d: _max_pool,
    ops.GlobalAvgPool: _plain("GlobalAveragePool"),
    ops.Resize: _resize,
    ops.Add: _plain("Add"),
    ops.Multiply: _plain("Mul"),
    ops.Concat: _concat,
    ops.Slice: _slice,
    ops.Flatten: _plain("Flatten"),
}
"""The function of every operator that writes its ONNX nodes."""
