"""Layers and weights as an ONNX graph, written directly: same nodes and outputs as torch's exporter gives.

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

from nas.onnx_files import onnx_file
from search_spaces import BLOCK_INPUT, LayerSpec

Weights = Mapping[str, NDArray[np.float32]]
"""Arrays by the names of `nas.network.static.StaticNet`, such as `stem.conv.norm.running_mean`."""

OPSET = 18
"""Newest that ONNX Runtime 1.14 and later, phones included, all read."""
INPUT, LOGITS, FEATURES = "input", "logits", "output"
BATCH = "batch"
"""Name of the first dimension where it is dynamic."""


def build(
    layers: Sequence[LayerSpec],
    weights: Weights,
    *,
    batch: int | None = 1,
    metadata: Mapping[str, str] | None = None,
) -> onnx.ModelProto:
    """The model that `serialize` writes, with the same arguments, as an object."""
    return onnx.load_from_string(serialize(layers, weights, batch=batch, metadata=metadata))


def serialize(
    layers: Sequence[LayerSpec],
    weights: Weights,
    *,
    batch: int | None = 1,
    metadata: Mapping[str, str] | None = None,
) -> bytes:
    """The network or block as an ONNX model in bytes, batch norms folded into the convolutions.

    The input is called `input`, float32 of shape (batch, channels, size, size). The output is `logits`,
    shape (batch, classes), or `output`, a feature map, where the last layer is not linear.

    Args:
        layers: of a network (`Space.layers`) or of one block.
        weights: as `StaticNet.weights` or `random_weights` give them; more than needed is fine.
        batch: images at a time; None: decided by the caller at run time.
        metadata: text stored in the model.
    """
    graph = _Graph(weights)
    last = len(layers) - 1
    outputs = [
        LOGITS if i == last and layer.op == "linear" else _name(layer) for i, layer in enumerate(layers)
    ]
    if layers[last].op != "linear":
        outputs[last] = FEATURES
    for layer, output in zip(layers, outputs, strict=True):
        inputs = [INPUT if i == BLOCK_INPUT else outputs[i] for i in layer.inputs]
        linear = output if layer.activation == "none" else f"{_name(layer)}.linear"
        _OPERATORS[layer.op](graph, layer, inputs, linear)
        _ACTIVATIONS[layer.activation](graph, linear, output)
    return graph.serialize(layers[0], layers[last], outputs[last], batch, metadata or {})


def random_weights(layers: Sequence[LayerSpec], rng: np.random.Generator) -> dict[str, NDArray[np.float32]]:
    """Weights for a graph that is only timed: activations keep their scale, so no denormals slow it down.

    Source of the scale: He et al. 2015, normal with variance 2 / fan-in.
    """
    weights: dict[str, NDArray[np.float32]] = {}
    for layer in layers:
        if layer.op not in ("conv", "linear"):
            continue
        name = _name(layer)
        shape = _weight_shape(layer)
        scale = np.float32(np.sqrt(2 / np.prod(shape[1:])))
        weights[f"{name}.weight"] = rng.standard_normal(shape, dtype=np.float32) * scale
        ones, zeros = np.ones(layer.c_out, np.float32), np.zeros(layer.c_out, np.float32)
        if layer.bias:
            weights[f"{name}.bias"] = zeros
        if layer.norm_eps is not None:
            weights |= {f"{name}.norm.{part}": ones for part in ("weight", "running_var")}
            weights |= {f"{name}.norm.{part}": zeros for part in ("bias", "running_mean")}
    return weights


def fold_batch_norm(
    layer: LayerSpec, weights: Weights
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """Weight and bias of `layer` with its batch norm, if any, multiplied in.

    Returns:
        the weight in its own shape, and the bias of shape (c_out,) or None where there is none.
    """
    name = _name(layer)
    weight, bias = weights[f"{name}.weight"], weights.get(f"{name}.bias")
    if layer.norm_eps is None:
        return weight, bias
    gamma, beta, mean, var = (
        weights[f"{name}.norm.{part}"].astype(np.float64)
        for part in ("weight", "bias", "running_mean", "running_var")
    )
    scale = gamma / np.sqrt(var + layer.norm_eps)
    shift = beta + ((0.0 if bias is None else bias) - mean) * scale
    per_channel = scale.astype(np.float32).reshape(-1, *(1,) * (weight.ndim - 1))
    return weight * per_channel, shift.astype(np.float32)


class _Graph:
    """Nodes and constants as they are collected."""

    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx_file.Constant] = {}

    def node(self, op: str, inputs: Sequence[str], output: str, **attributes: Any) -> None:
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))

    def constant(self, name: str, values: onnx_file.Constant) -> str:
        self.constants[name] = values
        return name

    def parameters(self, layer: LayerSpec) -> list[str]:
        """Constants of a convolution or linear layer: weight and, where there is one, bias."""
        weight, bias = fold_batch_norm(layer, self.weights)
        names = [self.constant(f"{_name(layer)}.weight", weight)]
        return names if bias is None else [*names, self.constant(f"{_name(layer)}.bias", bias)]

    def serialize(
        self,
        first: LayerSpec,
        last: LayerSpec,
        output: str,
        batch: int | None,
        metadata: Mapping[str, str],
    ) -> bytes:
        n = BATCH if batch is None else batch
        shape_in = (n, first.c_in, first.size_in, first.size_in)
        shape_out = (n, last.c_out) if last.op == "linear" else (n, last.c_out, last.size_out, last.size_out)
        graph = helper.make_graph(
            self.nodes,
            "subnet",
            [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, shape_in)],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, shape_out)],
        )
        opset = helper.make_opsetid("", OPSET)
        # the lowest version that knows the opset: onnx writes by default what released runtimes cannot read
        model = onnx.ModelProto(
            ir_version=helper.find_min_ir_version_for([opset]),
            opset_import=[opset],
            producer_name="elastic-nas",
        )
        helper.set_model_props(model, dict(metadata))
        return onnx_file.serialize(model, graph, self.constants)


def _name(layer: LayerSpec) -> str:
    return f"{layer.block}.{layer.name}"


def _weight_shape(layer: LayerSpec) -> tuple[int, ...]:
    if layer.op == "linear":
        return layer.c_out, layer.c_in
    return layer.c_out, layer.c_in // layer.groups, layer.kernel, layer.kernel


def _conv(graph: _Graph, layer: LayerSpec, inputs: list[str], output: str) -> None:
    graph.node(
        "Conv",
        [*inputs, *graph.parameters(layer)],
        output,
        kernel_shape=[layer.kernel] * 2,
        strides=[layer.stride] * 2,
        pads=[layer.kernel // 2] * 4,
        group=layer.groups,
    )


def _linear(graph: _Graph, layer: LayerSpec, inputs: list[str], output: str) -> None:
    flat = f"{_name(layer)}.flat"
    graph.node("Flatten", inputs, flat)
    graph.node("Gemm", [flat, *graph.parameters(layer)], output, transB=1)


def _plain(op: str) -> Callable[[_Graph, LayerSpec, list[str], str], None]:
    return lambda graph, layer, inputs, output: graph.node(op, inputs, output)


def _window(layer: LayerSpec) -> dict[str, Any]:
    """Attributes of a pool."""
    return {
        "kernel_shape": [layer.kernel] * 2,
        "strides": [layer.stride] * 2,
        "pads": [layer.padding] * 4,
        "ceil_mode": int(layer.ceil_mode),
    }


def _avg_pool(graph: _Graph, layer: LayerSpec, inputs: list[str], output: str) -> None:
    graph.node("AveragePool", inputs, output, count_include_pad=int(layer.padding > 0), **_window(layer))


def _max_pool(graph: _Graph, layer: LayerSpec, inputs: list[str], output: str) -> None:
    graph.node("MaxPool", inputs, output, **_window(layer))


def _resize(graph: _Graph, layer: LayerSpec, inputs: list[str], output: str) -> None:
    if layer.size_in == layer.size_out:
        graph.node("Identity", inputs, output)
        return
    size = graph.constant(f"{_name(layer)}.size", np.array([layer.size_out] * 2))
    graph.node("Resize", [*inputs, "", "", size], output, mode="cubic", cubic_coeff_a=-0.75, axes=[2, 3])


def _relu6(graph: _Graph, x: str, output: str) -> None:
    limits = [
        graph.constant(f"{output}.{i}", np.array(v, np.float32)) for i, v in (("min", 0.0), ("max", 6.0))
    ]
    graph.node("Clip", [x, *limits], output)


def _swish(graph: _Graph, x: str, output: str) -> None:
    graph.node("Sigmoid", [x], f"{output}.gate")
    graph.node("Mul", [x, f"{output}.gate"], output)


_OPERATORS: dict[str, Callable[[_Graph, LayerSpec, list[str], str], None]] = {
    "conv": _conv,
    "linear": _linear,
    "add": _plain("Add"),
    "multiply": _plain("Mul"),
    "avg_pool": _avg_pool,
    "max_pool": _max_pool,
    "global_avg_pool": _plain("GlobalAveragePool"),
    "resize": _resize,
}

_ACTIVATIONS: dict[str, Callable[[_Graph, str, str], None]] = {
    "none": lambda graph, x, output: None,
    "relu": lambda graph, x, output: graph.node("Relu", [x], output),
    "relu6": _relu6,
    "hard_swish": lambda graph, x, output: graph.node("HardSwish", [x], output),
    "swish": _swish,
    "sigmoid": lambda graph, x, output: graph.node("Sigmoid", [x], output),
    "hard_sigmoid": lambda graph, x, output: graph.node("HardSigmoid", [x], output, alpha=1 / 6, beta=0.5),
}
