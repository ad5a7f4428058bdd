"""Fake quantization: a network computed in torch with the rounding of its INT8 file.

It is used to train networks for INT8 and to check INT8 files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from nas.onnx_backend import onnx_graph
from nas.onnx_backend.calibrate import Ranges
from nas.onnx_backend.graph_writer import INPUT, tensor_name
from nas.onnx_backend.quantize import assumed_ranges, quantize, scheme
from nas.torch_backend.functional import FUNCTIONS, Compute, Weights
from search_spaces import Block, Node
from search_spaces import operators as ops
from search_spaces.block_precision import without_border
from search_spaces.graph import chain, fold_batch_norms
from search_spaces.tensors import INT8

_STEPS = 255
"""Steps between the ends of an 8-bit range."""
_DEQUANTIZED = "weight_DequantizeLinear_Output"
LIMITS, PRODUCT_LIMITS = {False: 127, True: 64}, {False: 127, True: 63}
"""Largest integer of weights in the QDQ format and in dynamic products, by whether the range is reduced."""


class FakeQuantization:
    """A network with the rounding of its quantized file.

    Gradients pass through the rounding where values are inside their range (straight-through estimator).
    Biases, which a file stores as 32-bit integers, are not rounded.

    Args:
        blocks: the blocks, whose specs have the precision of each node.
        instruction_set: as for `nas.onnx_backend.precision.convert`.
        ranges: ranges of activations, as for `convert`; None: the ranges of each batch.
    """

    def __init__(
        self, blocks: Sequence[Block], instruction_set: str | None, ranges: Ranges | None = None
    ) -> None:
        network = chain(map(without_border, blocks))
        deployed, norms = fold_batch_norms(network)
        self._network, self._ranges = network, ranges
        self._reduced = scheme(instruction_set).reduce_range
        names = {tensor_name(deployed, i): node.path for i, node in enumerate(deployed.nodes)}
        model = onnx_graph.build(blocks, onnx_graph.random_weights(blocks, np.random.default_rng(0)))
        quantized = quantize(model, blocks, assumed_ranges(model), scheme(instruction_set))
        # a tensor after a folded batch norm is the output of the norm
        after_norm = {path: norm.path for path, norm in norms.items()}
        self._rounded: dict[str, str] = {}
        for node in quantized.graph.node:
            if node.op_type == "QuantizeLinear":
                tensor = node.input[0].removesuffix("_QuantizeLinear_Input")
                path = names.get(tensor, tensor)
                # pooling has the scale of its input
                self._rounded[after_norm.get(path, path)] = node.input[1].removesuffix("_scale")

        self._integer, self._dynamic = set[str](), set[str]()
        for node in quantized.graph.node:
            name = node.name.removesuffix(".sums").removesuffix(".product")
            if node.op_type == "MatMulInteger":
                self._dynamic.add(names.get(name, name))
            elif node.op_type in ("Conv", "Gemm", "MatMul") and node.input[1].endswith(f".{_DEQUANTIZED}"):
                self._integer.add(names.get(name, name))

    def __call__(self, x: Tensor, weights: Callable[[Node], Weights], compute: Compute) -> Tensor:
        """Outputs for images (n, channels, height, width).

        Args:
            x: the images.
            weights: returns the weights of a convolution or linear layer.
            compute: computes other nodes with weights.
        """
        network = self._network
        exact: list[Tensor] = []
        rounded: list[Tensor] = []

        def read(index: int, node: Node) -> Tensor:
            if index < 0:
                return self._round(x, INPUT) if node.output.precision == INT8 else x
            from_int8 = network.nodes[index].output.precision == INT8
            return (rounded if from_int8 or node.output.precision == INT8 else exact)[index]

        for node in network.nodes:
            inputs = [read(index, node) for index in node.inputs]
            exact.append(self._output(node, inputs, weights, compute))
            rounded.append(self._round(exact[-1], node.path))
        return rounded[network.outputs[0]]

    def _output(
        self, node: Node, inputs: Sequence[Tensor], weights: Callable[[Node], Weights], compute: Compute
    ) -> Tensor:
        gate = f"{node.path}.gate"
        if isinstance(node.op, ops.Swish) and gate in self._rounded:
            return inputs[0] * self._round(torch.sigmoid(inputs[0]), gate)
        dynamic = node.path in self._dynamic
        if node.path not in self._integer and not dynamic:
            return compute(node, inputs) if node.parameters else FUNCTIONS[type(node.op)](node.op, inputs, {})
        own = dict(weights(node))
        limits = PRODUCT_LIMITS if dynamic else LIMITS
        own["weight"] = _round_channels(own["weight"], limits[self._reduced])
        if dynamic:
            inputs = [_round_between(inputs[0], *_ends(inputs[0]))]
        return FUNCTIONS[type(node.op)](node.op, inputs, own)

    def _round(self, x: Tensor, path: str) -> Tensor:
        """Round values as the file does; `path` is the path of the node, or the name of the images."""
        if path not in self._rounded:
            return x
        if self._ranges is None:
            return _round_between(x, *_ends(x))
        # as in the file: ends in float32, their difference and the zero point in float64
        low, high = torch.tensor(self._ranges[self._rounded[path]], device=x.device).double()
        return _round_between(x, low.clamp(max=0.0), high.clamp(min=0.0))


def _ends(x: Tensor) -> tuple[Tensor, Tensor]:
    """The ends of the range of a tensor, which includes zero."""
    return x.detach().amin().clamp(max=0.0), x.detach().amax().clamp(min=0.0)


def _round_between(x: Tensor, low: Tensor, high: Tensor) -> Tensor:
    scale = (high - low) / _STEPS
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    zero = torch.round(-low / scale).float()
    return _rounded_to(x.float(), scale.float(), -zero, _STEPS - zero)


def _round_channels(weight: Tensor, limit: int) -> Tensor:
    """Round weights with one scale per output channel."""
    largest = weight.detach().abs().flatten(1).amax(1)
    scale = torch.where(largest > 0, largest / limit, torch.ones_like(largest))
    ends = torch.tensor([-limit, limit], dtype=torch.float32, device=weight.device)
    return _rounded_to(weight.float(), scale.reshape(-1, *[1] * (weight.ndim - 1)), *ends)


def _rounded_to(x: Tensor, scale: Tensor, first: Tensor, last: Tensor) -> Tensor:
    """Round to multiples of `scale` from `first * scale` to `last * scale`; inside, gradients pass through.

    As in a file, values are divided by the scale and then rounded half to even. The order matters because
    averages of rounded values are often exactly in the middle between two steps.
    """
    inside = torch.clamp(x, first * scale, last * scale)
    nearest = torch.clamp(torch.round(x.detach() / scale), first, last) * scale
    return inside + (nearest - inside).detach()
