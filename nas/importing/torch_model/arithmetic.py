"""Rules of sums, products and other arithmetic."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from nas.importing.torch_model import attention_rules
from nas.importing.torch_model.lowering import Call, Index, Rule, View, Weight, kind_of
from nas.importing.torch_model.views import without_repetitions
from search_spaces.tensors import TensorSpec


def add(call: Call) -> Any:
    """A sum."""
    a, b = _operands(call)
    if call.kwargs.get("alpha", 1) != 1:
        raise ValueError(f"a sum must have the factor alpha=1, got {call.kwargs['alpha']}")
    if isinstance(b, Index):
        _check_equal(call, "sum", a, b)
        return call.add("add", a, b)
    if isinstance(b, Weight) and _are_positions(call.spec(a), b):
        grid = (1, call.spec(a).pixels)
        return call.add(
            "add_positions", a, path=b.name or call.path("positions"), weights={"grid": b}, grid=grid
        )
    return _with_constant(call, "add", a, b)


def subtract(call: Call) -> Any:
    """A difference."""
    if call.index(_both(call)[0]) is None:
        return _with_constant(call, "subtract_from", *_operands(call))
    a, b = _operands(call)
    if isinstance(b, Index):
        _check_equal(call, "difference", a, b)
        return call.add("subtract", a, b)
    return _with_constant(call, "subtract", a, b)


def multiply(call: Call) -> Any:
    """A product."""
    first, second = _both(call)
    scaled = attention_rules.times(call, first, second) or attention_rules.times(call, second, first)
    if scaled:
        return scaled
    a, b = _operands(call)
    if (
        isinstance(b, Weight)
        and b.learned
        and call.spec(a).layout != "vector"
        and _of_channels(call.spec(a), b) is not None
    ):
        of_image = True if call.spec(a).layout == "image" else None
        path = b.name or call.path("scale")
        return call.add("scale", a, path=path, weights={"weight": b}, of_image=of_image)
    if not isinstance(b, Index):
        return _with_constant(call, "multiply", a, b)
    if call.spec(a).pixels < call.spec(b).pixels:
        a, b = b, a
    specs = call.spec(a), call.spec(b)
    if specs[0] != specs[1] and (specs[0].channels != specs[1].channels or specs[1].size != (1, 1)):
        raise ValueError(f"the tensors of a product must have equal shapes, got {specs[0]} and {specs[1]}")
    return call.add("multiply", a, b)


def divide(call: Call) -> Any:
    """A quotient with a constant."""
    first, second = _both(call)
    if isinstance(second, int | float) and (scaled := attention_rules.times(call, first, 1 / second)):
        return scaled
    a, b = _operands(call)
    if call.index(first) is None or isinstance(b, Index):
        raise ValueError("only a constant can be a divisor")
    return _with_constant(call, "divide", a, b)


def clamp(call: Call) -> Index:
    """A clamp with the limits of ReLU or ReLU6."""
    module: Any = call.module
    if module is not None:
        limits = (module.min_val, module.max_val)
    else:
        limits = (call.argument(1, "min"), call.argument(2, "max"))
    names = {(0, None): "relu", (0, 6): "relu6"}
    if limits not in names:
        raise ValueError(f"values can only be clamped to the limits of ReLU or ReLU6, got {limits}")
    return call.add(names[limits], call.tensor())


def _both(call: Call) -> tuple[Any, Any]:
    return call.argument(0, "input"), call.argument(1, "other")


def _operands(call: Call) -> tuple[Index, Any]:
    """The two operands: the output of an operator, and the output of another operator or a constant."""
    values = [without_repetitions(value) if isinstance(value, View) else value for value in _both(call)]
    indices = [call.index(value) for value in values]
    for index, other, constant in ((indices[0], indices[1], values[1]), (indices[1], indices[0], values[0])):
        if index is not None:
            return index, constant if other is None else other
    raise ValueError(f"arithmetic with {kind_of(values[0])} is not supported")


def _check_equal(call: Call, name: str, a: int, b: int) -> None:
    if call.spec(a) != call.spec(b):
        raise ValueError(
            f"the tensors of a {name} must have equal shapes, got {call.spec(a)} and {call.spec(b)}"
        )


def _are_positions(spec: TensorSpec, weight: Weight) -> bool:
    return spec.layout == "tokens" and len(spec.size) == 1 < spec.pixels and weight.numel == spec.numel


def _of_channels(spec: TensorSpec, weight: Weight) -> Tensor | None:
    """One number for each channel, if a weight is constant over all positions; otherwise None."""
    try:
        whole = weight.tensor.expand(1, *spec.shape)
    except RuntimeError:
        return None
    by_channel = whole.movedim(-1 if spec.layout == "tokens" else 1, 0).flatten(1)
    values = by_channel[:, 0]
    return values if torch.equal(by_channel, values[:, None].expand_as(by_channel)) else None


def _with_constant(call: Call, function: str, source: Index, value: Any) -> Index:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return call.add("arithmetic", source, function=function, value=float(value))
    if not isinstance(value, Weight):
        raise ValueError(f"arithmetic with {kind_of(value)} is not supported")
    values = _of_channels(call.spec(source), value)
    if values is None:
        raise ValueError(
            f"{kind_of(value)} must have a number for each of {call.spec(source).channels} channels"
        )
    path = value.name or call.path("constant")
    # a parameter with one number for all channels gets one for each
    return call.add(
        "channel_arithmetic",
        source,
        path=path,
        weights={"value": Weight(values.contiguous(), value.name)},
        function=function,
        learned=True if value.learned and value.name else None,
        of_image=True if call.spec(source).layout == "image" else None,
    )


def activation(name: str) -> Rule:
    """The rule of an activation function without parameters."""
    return lambda call: call.add(name, call.tensor())


def gelu(call: Call) -> Index:
    """GELU, exact or approximated by tanh."""
    kind = getattr(call.module, "approximate", None) or call.argument(1, "approximate", "none")
    return call.add("gelu" if kind == "none" else "gelu_tanh", call.tensor())


def leaky_relu(call: Call) -> Index:
    """LeakyReLU."""
    slope = call.module.negative_slope if call.module else call.argument(1, "negative_slope", 0.01)
    return call.add("leaky_relu", call.tensor(), slope=None if slope == 0.01 else slope)


def elu(call: Call) -> Index:
    """ELU with alpha 1."""
    if (call.module.alpha if call.module else call.argument(1, "alpha", 1.0)) != 1:
        raise ValueError("the parameter of ELU must be 1")
    return call.add("elu", call.tensor())


def prelu(call: Call) -> Index:
    """PReLU; a single slope is repeated for each channel."""
    source = call.tensor()
    channels = call.spec(source).channels
    name = "weight"
    if isinstance(call.module, nn.PReLU):
        slopes = Weight(call.module.weight.detach(), f"{call.node.target}.weight")
    else:
        slopes, name = call.argument(1, "weight"), call.path()
    assert isinstance(slopes, Weight)
    if call.spec(source).layout == "tokens" or slopes.numel not in (1, channels):
        raise ValueError(f"PReLU must have a slope for each of {channels} channels, or one")
    path = None if call.module else slopes.module or name
    weight = Weight(slopes.tensor.reshape(-1).expand(channels).clone(), slopes.name)
    return call.add("prelu", source, path=path, weights={"weight": weight})
