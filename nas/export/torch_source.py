"""A subnet as readable Python code that needs only torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from search_spaces import Block, Node
from search_spaces import operators as ops

HEADER = '''\
"""{title}

    net = Net()
    net.load_state_dict(safetensors.torch.load_file("{weights}"))

Images have the shape (n, {channels}, {height}, {width}).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


{scale}class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = {{
{layers}
        }}
        for path, layer in self.layers.items():
            module, (*parents, name) = self, path.split(".")
            for parent in parents:
                module = module._modules.setdefault(parent, nn.Module())
            module._modules[name] = layer

    def forward(self, {first}: Tensor) -> Tensor:
        layer = self.layers
{lines}
        return {last}
'''


SCALE = """\
class Scale(nn.Module):
    def __init__(self, channels: int, of_image: bool) -> None:
        super().__init__()
        self.of_image = of_image
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        return x * (self.weight[:, None, None] if self.of_image else self.weight)


"""


def torch_source(block: Block, title: str, weights: str) -> str:
    """Python code of a class `Net` whose state dict has the names of `nas.torch_backend.static.StaticNet`.

    Args:
        block: the network as one block.
        title: first line of the documentation of the file.
        weights: name of the file of the weights in the example.

    Raises:
        ValueError: the network has an operator that can only be exported in other formats.
    """
    layers, lines = [], []
    for i, node in enumerate(block.nodes):
        inputs = [_variable(j) for j in node.inputs]
        if type(node.op) in MODULES:
            layers.append(f'            "{node.path}": {MODULES[type(node.op)](node)},')
            code = f'layer["{node.path}"]({_padded(node, inputs[0])})'
        elif type(node.op) in CALLS:
            code = CALLS[type(node.op)](node, inputs)
        else:
            raise ValueError(f"{type(node.op).__name__} ({node.path}) cannot be written as Python code")
        lines.append(f"        {_variable(i)} = {code}  # {node.output}")
    spec = block.inputs[0]
    return HEADER.format(
        title=title,
        weights=weights,
        channels=spec.channels,
        height=spec.size[0],
        width=spec.size[1],
        scale=SCALE if any(isinstance(node.op, ops.Scale) for node in block.nodes) else "",
        layers="\n".join(layers),
        first=_variable(-1),
        lines="\n".join(lines),
        last=_variable(block.outputs[0]),
    )


def can_be_written(block: Block) -> bool:
    """Whether `torch_source` has code for all operators of a network."""
    return all(type(node.op) in MODULES or type(node.op) in CALLS for node in block.nodes)


def _variable(index: int) -> str:
    return "images" if index < 0 else f"x{index}"


def _call(name: str, *values: object, **options: object) -> str:
    words = [*map(repr, values), *(f"{key}={value!r}" for key, value in options.items())]
    return f"{name}({', '.join(words)})"


def _conv(node: Node) -> str:
    op = node.op
    assert isinstance(op, ops.Conv2d)
    top, left, bottom, right = op.padding
    options: dict[str, Any] = {"stride": op.stride, "dilation": op.dilation, "groups": op.groups}
    if (top, left) == (bottom, right):
        options["padding"] = (top, left)
    defaults = {"stride": (1, 1), "dilation": (1, 1), "groups": 1, "padding": (0, 0)}
    options = {name: value for name, value in options.items() if value != defaults[name]}
    return _call("nn.Conv2d", node.specs[0].channels, op.channels, op.kernel, **options, bias=op.bias)


def _padded(node: Node, source: str) -> str:
    """The input of a layer, with the padding that its module cannot have."""
    if not isinstance(node.op, ops.Conv2d) or node.op.padding[:2] == node.op.padding[2:]:
        return source
    top, left, bottom, right = node.op.padding
    return f"F.pad({source}, {(left, right, top, bottom)})"


def _module(name: str, *fields: str) -> Callable[[Node], str]:
    def write(node: Node) -> str:
        return _call(name, node.specs[0].channels, **{field: getattr(node.op, field) for field in fields})

    return write


def _scale(node: Node) -> str:
    assert isinstance(node.op, ops.Scale)
    return _call("Scale", node.specs[0].channels, of_image=node.op.of_image)


def _linear(node: Node) -> str:
    assert isinstance(node.op, ops.Linear)
    return _call("nn.Linear", node.specs[0].channels, node.op.channels, bias=node.op.bias)


def _batch_norm(node: Node) -> str:
    dimensions = 1 if node.specs[0].layout == "vector" else 2
    return _module(f"nn.BatchNorm{dimensions}d", "eps")(node)


def _group_norm(node: Node) -> str:
    assert isinstance(node.op, ops.GroupNorm)
    return _call("nn.GroupNorm", node.op.groups, node.specs[0].channels, eps=node.op.eps)


MODULES: Mapping[type[ops.Operator], Callable[[Node], str]] = {
    ops.Conv2d: _conv,
    ops.Linear: _linear,
    ops.BatchNorm: _batch_norm,
    ops.LayerNorm: _module("nn.LayerNorm", "eps"),
    ops.GroupNorm: _group_norm,
    ops.PRelu: _module("nn.PReLU"),
    ops.Scale: _scale,
}
"""Code of the module of each operator with weights."""


def _pool(name: str) -> Callable[[Node, Sequence[str]], str]:
    def write(node: Node, inputs: Sequence[str]) -> str:
        op = node.op
        assert isinstance(op, ops.Pool2d)
        ceil_mode = op.extends(node.specs[0])
        return f"{name}({inputs[0]}, {op.kernel}, {op.stride}, {op.padding}, ceil_mode={ceil_mode})"

    return write


def _slice(node: Node, inputs: Sequence[str]) -> str:
    assert isinstance(node.op, ops.Slice)
    channels = "..." if node.specs[0].layout == "tokens" else ":"
    return f"{inputs[0]}[{channels}, {node.op.start}:{node.op.end}]"


def _concat(node: Node, inputs: Sequence[str]) -> str:
    return f"torch.cat([{', '.join(inputs)}], {-1 if node.output.layout == 'tokens' else 1})"


def _adaptive_pool(node: Node, inputs: Sequence[str]) -> str:
    return f"F.adaptive_avg_pool2d({inputs[0]}, {node.output.size})"


def _shuffle(node: Node, inputs: Sequence[str]) -> str:
    assert isinstance(node.op, ops.ChannelShuffle)
    return f"{inputs[0]}.unflatten(1, ({node.op.groups}, -1)).transpose(1, 2).flatten(1, 2)"


def _arithmetic(node: Node, inputs: Sequence[str]) -> str:
    op, x = node.op, inputs[0]
    assert isinstance(op, ops.Arithmetic)
    if op.function == "subtract_from":
        return f"{op.value} - {x}"
    symbol = {"add": "+", "subtract": "-", "multiply": "*", "divide": "/"}[op.function]
    return f"{x} {symbol} {op.value}"


def _leaky_relu(node: Node, inputs: Sequence[str]) -> str:
    assert isinstance(node.op, ops.LeakyRelu)
    return f"F.leaky_relu({inputs[0]}, {node.op.slope})"


def _format(text: str) -> Callable[[Node, Sequence[str]], str]:
    return lambda node, inputs: text.format(*inputs)


CALLS: Mapping[type[ops.Operator], Callable[[Node, Sequence[str]], str]] = {
    ops.Relu: _format("F.relu({})"),
    ops.Relu6: _format("F.relu6({})"),
    ops.HardSwish: _format("F.hardswish({})"),
    ops.Swish: _format("F.silu({})"),
    ops.Sigmoid: _format("torch.sigmoid({})"),
    ops.HardSigmoid: _format("F.hardsigmoid({})"),
    ops.Gelu: _format("F.gelu({})"),
    ops.GeluTanh: _format('F.gelu({}, approximate="tanh")'),
    ops.Mish: _format("F.mish({})"),
    ops.LeakyRelu: _leaky_relu,
    ops.Arithmetic: _arithmetic,
    ops.Elu: _format("F.elu({})"),
    ops.Tanh: _format("torch.tanh({})"),
    ops.AvgPool2d: _pool("F.avg_pool2d"),
    ops.MaxPool2d: _pool("F.max_pool2d"),
    ops.GlobalAvgPool: _format("{}.mean((2, 3), keepdim=True)"),
    ops.AdaptiveAvgPool2d: _adaptive_pool,
    ops.GlobalMaxPool: _format("{}.amax((2, 3), keepdim=True)"),
    ops.Add: _format("{} + {}"),
    ops.Subtract: _format("{} - {}"),
    ops.Multiply: _format("{} * {}"),
    ops.Concat: _concat,
    ops.Slice: _slice,
    ops.ChannelShuffle: _shuffle,
    ops.ChannelsLast: _format("{}.permute(0, 2, 3, 1)"),
    ops.ChannelsFirst: _format("{}.permute(0, 3, 1, 2)"),
    ops.Flatten: _format("{}.flatten(1)"),
    ops.ToPixel: _format("{}[:, :, None, None]"),
    ops.ImageToTokens: _format("{}.flatten(2).transpose(1, 2)"),
}
"""Code of each operator without weights, from the names of its inputs."""
