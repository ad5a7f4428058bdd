"""Blocks and weights as an ONNX graph, written directly: same nodes and outputs as torch's exporter gives.

Writing the graph takes milliseconds where the exporter takes seconds, and blocks can be written alone, so
that a latency table times exactly what is later deployed.
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
"""Arrays by the names of `nas.torch_backend.static.StaticNet`, such as `stem.conv.norm.running_mean`."""

OPSET = 18
"""Newest that ONNX Runtime 1.14 and later, phones included, all read."""
INPUT, LOGITS, FEATURES = "input", "logits", "output"
BATCH = "batch"
"""Name of the first dimension where it is dynamic."""


def build(
    blocks: Sequence[Block],
    weights: Weights,
    *,
    batch: int | None = 1,
    metadata: Mapping[str, str] | None = None,
) -> onnx.ModelProto:
    """The model that `serialize` writes, with the same arguments, as an object."""
    return onnx.load_from_string(serialize(blocks, weights, batch=batch, metadata=metadata))


def serialize(
    blocks: Sequence[Block],
    weights: Weights,
    *,
    batch: int | None = 1,
    metadata: Mapping[str, str] | None = None,
) -> bytes:
    """A network or a part of it as an ONNX model in bytes, batch norms folded into the convolutions.

    The input is called `input`, float32 of shape (batch, *spec.shape); further ones are `input.1`, `input.2`.
    The output is `logits` where it is a vector, else `output`; further ones are numbered likewise.

    Args:
        blocks: one after the other.
        weights: as `StaticNet.weights` or `random_weights` give them; more than needed is fine.
        batch: images at a time; None: decided by the caller at run time.
        metadata: text stored in the model.
    """
    whole, norms = fold_batch_norms(chain(blocks))
    graph = _Graph(whole, weights, norms, BATCH if batch is None else batch)
    for i, node in enumerate(whole.nodes):
        NODES[type(node.op)](graph, node, [graph.tensor(j) for j in node.inputs], graph.tensor(i))
    return graph.serialize(metadata or {})


def random_weights(blocks: Sequence[Block], rng: np.random.Generator) -> dict[str, NDArray[np.float32]]:
    """Weights for a graph that is only timed: activations keep their scale, so no denormals slow it down.

    Source of the scale: He et al. 2015, normal with variance 2 / fan-in.
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
    """Weight and bias of a convolution or linear layer with the batch norm behind it, if any, multiplied in.

    Returns:
        the weight in its own shape, and the bias of shape (c_out,) or None where there is none.
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
    """Nodes and constants as they are collected."""

    def __init__(self, block: Block, weights: Weights, norms: Mapping[str, Node], batch: int | str) -> None:
        self.block, self.weights, self.norms, self.batch = block, weights, norms, batch
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx_file.Constant] = {}

    def tensor(self, index: int) -> str:
        """Name of the tensor of a node, or of an input for a negative index."""
        if index < 0:
            return _numbered(INPUT, -1 - index)
        if index in self.block.outputs:
            place = self.block.outputs.index(index)
            vector = self.block.spec(index).layout == "vector"
            return _numbered(LOGITS if vector else FEATURES, place)
        return self.block.nodes[index].path

    def node(self, op: str, inputs: Sequence[str], output: str, **attributes: Any) -> None:
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))

    def constant(self, name: str, values: onnx_file.Constant) -> str:
        self.constants[name] = values
        return name

    def parameters(self, node: Node) -> list[str]:
        """Constants of a convolution or linear layer: weight and, where there is one, bias."""
        weight, bias = fold_batch_norm(node, self.norms.get(node.path), self.weights)
        names = [self.constant(f"{node.path}.weight", weight)]
        return names if bias is None else [*names, self.constant(f"{node.path}.bias", bias)]

    def own(self, node: Node, *names: str) -> list[str]:
        """Constants of a node as they are."""
        return [self.constant(f"{node.path}.{name}", self.weights[f"{node.path}.{name}"]) for name in names]

    def serialize(self, metadata: Mapping[str, str]) -> bytes:
        def info(index: int) -> onnx.ValueInfoProto:
            shape = (self.batch, *self.block.spec(index).shape)
            return helper.make_tensor_value_info(self.tensor(index), TensorProto.FLOAT, shape)

        inputs = [info(-1 - i) for i in range(len(self.block.inputs))]
        graph = helper.make_graph(self.nodes, "subnet", inputs, [info(index) for index in self.block.outputs])
        opset = helper.make_opsetid("", OPSET)
        # the lowest version that knows the opset: onnx writes by default what released runtimes cannot read
        model = onnx.ModelProto(
            ir_version=helper.find_min_ir_version_for([opset]),
            opset_import=[opset],
            producer_name="elastic-nas",
        )
        helper.set_model_props(model, dict(metadata))
        return onnx_file.serialize(model, graph, self.constants)


def _numbered(name: str, place: int) -> str:
    return f"{name}.{place}" if place else name


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
    constants = graph.own(node, "weight", "bias", "running_mean", "running_var")
    graph.node("BatchNormalization", [*inputs, *constants], output, epsilon=node.op.eps)


def _layer_norm(graph: _Graph, node: Node, inputs: list[str], output: str) -> None:
    assert isinstance(node.op, ops.LayerNorm)
    constants = graph.own(node, "weight", "bias")
    graph.node("LayerNormalization", [*inputs, *constants], output, axis=-1, epsilon=node.op.eps)


def _plain(op: str, **attributes: Any) -> Write:
    return lambda graph, node, inputs, output: graph.node(op, inputs, output, **attributes)


def _window(node: Node) -> dict[str, Any]:
    """Attributes of a pool."""
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
    """x / 2 · (1 + erf(x / √2)): opset 18 has no node of its own for it."""
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
"""Every operator."""
