"""Conversion of blocks and weights to an ONNX graph with the nodes and outputs of torch's exporter.

The conversion takes milliseconds, while torch's exporter takes seconds. Single blocks can be converted too,
so that a latency table measures exactly the nodes that are deployed later.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from nas.onnx_backend import onnx_arithmetic, onnx_attention, onnx_window_attention
from nas.onnx_backend.graph_writer import BATCH as BATCH
from nas.onnx_backend.graph_writer import FEATURES as FEATURES
from nas.onnx_backend.graph_writer import INPUT as INPUT
from nas.onnx_backend.graph_writer import LOGITS as LOGITS
from nas.onnx_backend.graph_writer import OPSET as OPSET
from nas.onnx_backend.graph_writer import GraphWriter, Weights, fold_batch_norm
from search_spaces import Block, Node
from search_spaces import operators as ops
from search_spaces.block_precision import without_border
from search_spaces.graph import chain, fold_batch_norms


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
    further outputs are numbered in the same way. All nodes are in floating point, and borders between
    precisions have no nodes; `nas.onnx_backend.precision.convert` converts the model.

    Args:
        blocks: the blocks in order.
        weights: weights as returned by `StaticNet.weights` or `random_weights`; may contain more than needed.
        batch: batch size; None: a dynamic dimension.
        metadata: strings stored in the model, by key.
    """
    block, norms = fold_batch_norms(chain(map(without_border, blocks)))
    graph = GraphWriter(block, weights, norms, BATCH if batch is None else batch)
    for i, node in enumerate(block.nodes):
        NODES[type(node.op)](graph, node, [graph.tensor(j) for j in node.inputs], graph.tensor(i))
    return graph.serialize(metadata or {})


ONES = ("weight", "running_var", "value")
"""Names of vectors that are 1 in a graph with random weights: factors and divisors."""


def random_weights(blocks: Sequence[Block], rng: np.random.Generator) -> dict[str, NDArray[np.float32]]:
    """Random weights for a graph whose latency is measured.

    Matrices and kernels are normal with variance 2 / fan-in (He et al. 2015), so that activations keep their
    scale and denormal numbers do not increase the latency. Vectors are 0, or 1 if their name is in `ONES`.

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
                values = np.full(shape, name in ONES, np.float32)
            weights[f"{node.path}.{name}"] = values
    return weights


Write = Callable[[GraphWriter, Node, list[str], str], None]
"""Adds the ONNX nodes of an operator: (graph, node, names of its inputs, name of its output)."""


def _conv(graph: GraphWriter, node: Node, inputs: list[str], output: str) -> None:
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


def _linear(graph: GraphWriter, node: Node, inputs: list[str], output: str) -> None:
    if node.specs[0].layout == "vector":
        graph.node("Gemm", [*inputs, *graph.parameters(node)], output, transB=1)
        return
    weight, bias = fold_batch_norm(node, graph.norms.get(node.path), graph.weights)
    product = output if bias is None else f"{node.path}.product"
    graph.node("MatMul", [*inputs, graph.constant(f"{node.path}.weight", weight.T.copy())], product)
    if bias is not None:
        graph.node("Add", [product, graph.constant(f"{node.path}.bias", bias)], output)


def _batch_norm(graph: GraphWriter, node: Node, inputs: list[str], output: str) -> None:
    assert isinstance(node.op, ops.BatchNorm)
    constants = graph.unfolded_parameters(node, "weight", "bias", "running_mean", "running_var")
    graph.node("BatchNormalization", [*inputs, *constants], output, epsilon=node.op.eps)


def _layer_norm(graph: GraphWriter, node: Node, inputs: list[str], output: str) -> None:
    assert isinstance(node.op, ops.LayerNorm)
    constants = graph.unfolded_parameters(node, "weight", "bias")
    axis = -1
    if node.op.over_tokens:  # runtimes need weight and bias in the shape of the input
        axis, shape = -2, graph.constant(f"{node.path}.shape", np.array(node.output.shape))
        for constant in constants:
            graph.node("Expand", [constant, shape], f"{constant}.tokens")
        constants = [f"{constant}.tokens" for constant in constants]
    graph.node("LayerNormalization", [*inputs, *constants], output, axis=axis, epsilon=node.op.eps)


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
        "ceil_mode": int(op.extends(node.specs[0])),
    }


def _avg_pool(graph: GraphWriter, node: Node, inputs: list[str], output: str) -> None:
    window = _window(node)
    graph.node("AveragePool", inputs, output, count_include_pad=int(any(window["pads"])), **window)


def _max_pool(graph: GraphWriter, node: Node, inputs: list[str], output: str) -> None:
    graph.node("MaxPool", inputs, output, **_window(node))


def _adaptive_avg_pool(graph: GraphWriter, node: Node, inputs: list[str], output: str) -> None:
    before, after = node.specs[0].size, node.output.size
    if before == after:
        graph.node("Identity", inputs, output)
    elif after == (1, 1):
        graph.node("GlobalAveragePool", inputs, output)
    else:
        windows = [n // parts for n, parts in zip(before, after, strict=True)]
        graph.node("AveragePool", inputs, output, kernel_shape=windows, strides=windows)


def _resize(graph: GraphWriter, node: Node, inputs: list[str], output: str) -> None:
    if node.output.size == node.specs[0].size:
        graph.node("Identity", inputs, output)
        return
    size = graph.constant(f"{node.path}.size", np.array(node.output.size))
    graph.node("Resize", [*inputs, "", "", size], output, mode="cubic", cubic_coeff_a=-0.75, axes=[2, 3])


def _relu6(graph: GraphWriter, node: Node, inputs: list[str], output: str) -> None:
    limits = [
        graph.constant(f"{output}.{name}", np.array(value, np.float32))
        for name, value in (("min", 0.0), ("max", 6.0))
    ]
    graph.node("Clip", [*inputs, *limits], output)


def _swish(graph: GraphWriter, node: Node, inputs: list[str], output: str) -> None:
    graph.node("Sigmoid", inputs, f"{output}.gate")
    graph.node("Mul", [*inputs, f"{output}.gate"], output)


def _gelu(graph: GraphWriter, node: Node, inputs: list[str], output: str) -> None:
    """x · (1 + erf(x / √2)) / 2; opset 18 has no Gelu node, but ONNX Runtime fuses these nodes into one."""
    root = graph.constant(f"{output}.root", np.array(np.sqrt(2), np.float32))
    one, half = (
        graph.constant(f"{output}.{n}", np.array(v, np.float32)) for n, v in (("one", 1), ("half", 0.5))
    )
    graph.node("Div", [*inputs, root], f"{output}.scaled")
    graph.node("Erf", [f"{output}.scaled"], f"{output}.erf")
    graph.node("Add", [f"{output}.erf", one], f"{output}.gate")
    graph.node("Mul", [*inputs, f"{output}.gate"], f"{output}.double")
    graph.node("Mul", [f"{output}.double", half], output)


def _gelu_tanh(graph: GraphWriter, node: Node, inputs: list[str], output: str) -> None:
    """x · (1 + tanh(√(2/π) · (x + 0.044715 · x³))) / 2."""
    values = {"factor": 0.044715, "root": np.sqrt(2 / np.pi), "one": 1.0, "half": 0.5}
    names = {n: graph.constant(f"{output}.{n}", np.array(v, np.float32)) for n, v in values.items()}
    graph.node("Mul", [*inputs, *inputs], f"{output}.square")
    graph.node("Mul", [f"{output}.square", *inputs], f"{output}.cube")
    graph.node("Mul", [f"{output}.cube", names["factor"]], f"{output}.scaled")
    graph.node("Add", [*inputs, f"{output}.scaled"], f"{output}.sum")
    graph.node("Mul", [f"{output}.sum", names["root"]], f"{output}.argument")
    graph.node("Tanh", [f"{output}.argument"], f"{output}.tanh")
    graph.node("Add", [f"{output}.tanh", names["one"]], f"{output}.gate")
    graph.node("Mul", [*inputs, f"{output}.gate"], f"{output}.double")
    graph.node("Mul", [f"{output}.double", names["half"]], output)


def _mish(graph: GraphWriter, node: Node, inputs: list[str], output: str) -> None:
    graph.node("Softplus", inputs, f"{output}.softplus")
    graph.node("Tanh", [f"{output}.softplus"], f"{output}.gate")
    graph.node("Mul", [*inputs, f"{output}.gate"], output)


def _prelu(graph: GraphWriter, node: Node, inputs: list[str], output: str) -> None:
    slopes = graph.weights[f"{node.path}.weight"]
    slopes = slopes[:, None, None] if node.output.layout == "image" else slopes
    graph.node("PRelu", [*inputs, graph.constant(f"{node.path}.weight", slopes)], output)


def _group_norm(graph: GraphWriter, node: Node, inputs: list[str], output: str) -> None:
    """Write an instance norm over the groups, because opset 18 has no group norm with weights per channel."""
    op, path = node.op, node.path
    assert isinstance(op, ops.GroupNorm)
    ones = graph.constant(f"{path}.ones", np.ones(op.groups, np.float32))
    zeros = graph.constant(f"{path}.zeros", np.zeros(op.groups, np.float32))
    split = graph.constant(f"{path}.groups", np.array([0, op.groups, -1]))
    joined = graph.constant(f"{path}.shape", np.array([0, *node.output.shape]))
    graph.node("Reshape", [*inputs, split], f"{path}.split")
    graph.node("InstanceNormalization", [f"{path}.split", ones, zeros], f"{path}.normalized", epsilon=op.eps)
    graph.node("Reshape", [f"{path}.normalized", joined], f"{path}.joined")
    weight, bias = (
        graph.constant(f"{path}.{name}", graph.weights[f"{path}.{name}"][:, None, None])
        for name in ("weight", "bias")
    )
    graph.node("Mul", [f"{path}.joined", weight], f"{path}.scaled")
    graph.node("Add", [f"{path}.scaled", bias], output)


def _to_pixel(graph: GraphWriter, node: Node, inputs: list[str], output: str) -> None:
    axes = graph.constant(f"{node.path}.axes", np.array([2, 3]))
    graph.node("Unsqueeze", [*inputs, axes], output)


def _scale(graph: GraphWriter, node: Node, inputs: list[str], output: str) -> None:
    assert isinstance(node.op, ops.Scale)
    factors = graph.weights[f"{node.path}.weight"].ravel() * np.float32(node.op.multiplier)
    factors = factors[:, None, None] if node.op.of_image else factors
    graph.node("Mul", [*inputs, graph.constant(f"{node.path}.weight", factors)], output)


def _image_to_tokens(graph: GraphWriter, node: Node, inputs: list[str], output: str) -> None:
    shape = graph.constant(f"{node.path}.shape", np.array([0, 0, -1]))
    graph.node("Reshape", [*inputs, shape], f"{output}.rows")
    graph.node("Transpose", [f"{output}.rows"], output, perm=[0, 2, 1])


def _tokens_to_image(graph: GraphWriter, node: Node, inputs: list[str], output: str) -> None:
    shape = graph.constant(f"{node.path}.shape", np.array([0, *node.output.shape]))
    graph.node("Transpose", inputs, f"{output}.rows", perm=[0, 2, 1])
    graph.node("Reshape", [f"{output}.rows", shape], output)


def _prepend_tokens(graph: GraphWriter, node: Node, inputs: list[str], output: str) -> None:
    """Write the sum of both parts, each padded with zeros, because a concatenation would need the batch
    size."""
    assert isinstance(node.op, ops.PrependTokens)
    before = graph.constant(f"{node.path}.before", np.array([0, node.op.count, 0, 0, 0, 0]))
    after = graph.constant(f"{node.path}.after", np.array([0, 0, node.specs[0].pixels, 0]))
    graph.node("Pad", [*inputs, before], f"{output}.patches")
    graph.node("Pad", [*graph.unfolded_parameters(node, "weight"), after], f"{output}.prefix")
    graph.node("Add", [f"{output}.patches", f"{output}.prefix"], output)


def _add_positions(graph: GraphWriter, node: Node, inputs: list[str], output: str) -> None:
    assert isinstance(node.op, ops.AddPositions)
    table = graph.weights[f"{node.path}.grid"].reshape(-1, node.output.channels)
    if node.op.prefix:
        table = np.concatenate([graph.weights[f"{node.path}.prefix"], table])
    graph.node("Add", [*inputs, graph.constant(f"{node.path}.table", table)], output)


def _take_token(graph: GraphWriter, node: Node, inputs: list[str], output: str) -> None:
    assert isinstance(node.op, ops.TakeToken)
    graph.node(
        "Gather", [*inputs, graph.constant(f"{node.path}.index", np.array(node.op.index))], output, axis=1
    )


def _mean_tokens(graph: GraphWriter, node: Node, inputs: list[str], output: str) -> None:
    assert isinstance(node.op, ops.MeanTokens)
    axis = graph.constant(f"{node.path}.axis", np.array([1]))
    if node.op.skip:
        values = {"start": node.op.skip, "end": node.specs[0].pixels}
        ends = [graph.constant(f"{node.path}.{name}", np.array([value])) for name, value in values.items()]
        graph.node("Slice", [*inputs, *ends, axis], f"{output}.tokens")
        inputs = [f"{output}.tokens"]
    graph.node("ReduceMean", [*inputs, axis], output, keepdims=0)


def _channel_axis(node: Node) -> int:
    return 2 if node.specs[0].layout == "tokens" else 1


def _concat(graph: GraphWriter, node: Node, inputs: list[str], output: str) -> None:
    graph.node("Concat", inputs, output, axis=_channel_axis(node))


def _slice(graph: GraphWriter, node: Node, inputs: list[str], output: str) -> None:
    op, axis = node.op, _channel_axis(node)
    assert isinstance(op, ops.Slice)
    grouped = op.groups > 1
    values = {"start": op.start, "end": op.end, "axis": axis + grouped}
    names = [graph.constant(f"{node.path}.{name}", np.array([value])) for name, value in values.items()]
    if not grouped:
        graph.node("Slice", [*inputs, *names], output)
        return
    before, after = node.specs[0].shape, node.output.shape
    split = [0, *before[: axis - 1], op.groups, before[axis - 1] // op.groups, *before[axis:]]
    graph.node(
        "Reshape", [*inputs, graph.constant(f"{node.path}.groups", np.array(split))], f"{output}.split"
    )
    graph.node("Slice", [f"{output}.split", *names], f"{output}.part")
    joined = graph.constant(f"{node.path}.shape", np.array([0, *after]))
    graph.node("Reshape", [f"{output}.part", joined], output)


def _leaky_relu(graph: GraphWriter, node: Node, inputs: list[str], output: str) -> None:
    assert isinstance(node.op, ops.LeakyRelu)
    graph.node("LeakyRelu", inputs, output, alpha=node.op.slope)


def _channel_shuffle(graph: GraphWriter, node: Node, inputs: list[str], output: str) -> None:
    """Write the transposition of a matrix (groups, channels per group) whose elements are feature maps."""
    assert isinstance(node.op, ops.ChannelShuffle)
    spec = node.output
    split, joined = (
        graph.constant(f"{node.path}.{name}", np.array([0, *shape]))
        for name, shape in (("groups", (node.op.groups, -1, *spec.size)), ("shape", spec.shape))
    )
    graph.node("Reshape", [*inputs, split], f"{output}.split")
    graph.node("Transpose", [f"{output}.split"], f"{output}.transposed", perm=[0, 2, 1, 3, 4])
    graph.node("Reshape", [f"{output}.transposed", joined], output)


NODES: Mapping[type[ops.Operator], Write] = {
    ops.Conv2d: _conv,
    ops.Linear: _linear,
    ops.BatchNorm: _batch_norm,
    ops.LayerNorm: _layer_norm,
    ops.GroupNorm: _group_norm,
    ops.Scale: _scale,
    ops.Relu: _plain("Relu"),
    ops.Relu6: _relu6,
    ops.HardSwish: _plain("HardSwish"),
    ops.Swish: _swish,
    ops.Sigmoid: _plain("Sigmoid"),
    ops.HardSigmoid: _plain("HardSigmoid", alpha=1 / 6, beta=0.5),
    ops.Gelu: _gelu,
    ops.GeluTanh: _gelu_tanh,
    ops.Mish: _mish,
    ops.LeakyRelu: _leaky_relu,
    ops.PRelu: _prelu,
    ops.Elu: _plain("Elu"),
    ops.Tanh: _plain("Tanh"),
    ops.Arithmetic: onnx_arithmetic.write,
    ops.ChannelArithmetic: onnx_arithmetic.write_by_channel,
    ops.AvgPool2d: _avg_pool,
    ops.MaxPool2d: _max_pool,
    ops.GlobalAvgPool: _plain("GlobalAveragePool"),
    ops.GlobalMaxPool: _plain("GlobalMaxPool"),
    ops.AdaptiveAvgPool2d: _adaptive_avg_pool,
    ops.Resize: _resize,
    ops.Add: _plain("Add"),
    ops.Subtract: _plain("Sub"),
    ops.Multiply: _plain("Mul"),
    ops.Concat: _concat,
    ops.Slice: _slice,
    ops.ChannelShuffle: _channel_shuffle,
    ops.ChannelsLast: _plain("Transpose", perm=[0, 2, 3, 1]),
    ops.ChannelsFirst: _plain("Transpose", perm=[0, 3, 1, 2]),
    ops.Flatten: _plain("Flatten"),
    ops.ToPixel: _to_pixel,
    ops.Convert: _plain("Identity"),  # the quantizer converts
    ops.ImageToTokens: _image_to_tokens,
    ops.TokensToImage: _tokens_to_image,
    ops.PrependTokens: _prepend_tokens,
    ops.AddPositions: _add_positions,
    ops.Attention: onnx_attention.write,
    ops.WindowAttention: onnx_window_attention.write,
    ops.MergeTokens: onnx_window_attention.write_merge,
    ops.TakeToken: _take_token,
    ops.MeanTokens: _mean_tokens,
}
"""For every operator, the function that writes its ONNX nodes."""
