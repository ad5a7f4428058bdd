"""The table of rules that translate torch modules, functions and methods to operators.

A rule either reproduces what its class, function or method computes, or refuses it with a `ValueError`.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models import swin_transformer

from nas.importing.torch_model import arithmetic, attention_rules
from nas.importing.torch_model.lowering import Call, Deferred, Index, Rule, View, Weight
from nas.importing.torch_model.views import item, joined, rearrange
from search_spaces.families.traced_operators import Conv
from search_spaces.operators import Conv2d

Pair = tuple[int, int]
Sides = tuple[int, int, int, int]


def _pair(value: Any) -> Pair:
    pair = tuple(value) if isinstance(value, tuple | list) else (value, value)
    if len(pair) == 1:
        pair *= 2
    if len(pair) != 2 or not all(isinstance(n, int) for n in pair):
        raise ValueError(f"sizes must be two integers, got {value}")
    return cast(Pair, pair)


def _one(value: Any, name: str) -> int:
    height, width = _pair(value)
    if height != width:
        raise ValueError(f"the {name} of a pool must be square, got {value}")
    return height


def _unless(value: Any, default: Any) -> Any:
    """`value`, or None if it equals the default, because `Call.add` leaves out fields that are None."""
    return None if value == default else value


@dataclass(frozen=True)
class Padded(Deferred):
    """A feature map with zeros around it."""

    source: int
    padding: Sides
    """Padding at top, left, bottom and right, in pixels."""


def _pad(call: Call) -> Any:
    source, module = call.tensor(), cast(Any, call.module)
    if module is not None:
        sizes, mode, value = module.padding, "constant", getattr(module, "value", 0.0)
    else:
        sizes, mode, value = (
            call.argument(1, "pad"),
            call.argument(2, "mode", "constant"),
            call.argument(3, "value"),
        )
    sizes = tuple(sizes) + (0,) * (4 - len(sizes))
    if mode != "constant" or value or len(sizes) > 4 or call.spec(source).layout != "image":
        raise ValueError("only feature maps can be padded, with zeros")
    left, right, top, bottom = sizes
    return Padded("a padded feature map", source, (top, left, bottom, right)) if any(sizes) else source


def _conv(call: Call) -> Index:
    module = call.module
    assert isinstance(module, nn.Conv2d)
    if module.padding_mode != "zeros":
        raise ValueError(f"the padding of a convolution must be zeros, got {module.padding_mode!r}")
    window = (module.kernel_size, module.stride, module.padding, module.dilation)
    weights = (Weight(module.weight), None if module.bias is None else Weight(module.bias))
    return _add_conv(call, *window, module.groups, *weights)


def _conv_same(call: Call) -> Index:
    """A convolution that pads as TensorFlow does, with more zeros at the end."""
    module = call.module
    assert isinstance(module, nn.Conv2d)
    window = (module.kernel_size, module.stride, "tensorflow", module.dilation)
    weights = (Weight(module.weight), None if module.bias is None else Weight(module.bias))
    return _add_conv(call, *window, module.groups, *weights)


def _conv_function(call: Call) -> Index:
    names = ("weight", "bias", "stride", "padding", "dilation", "groups")
    weight, bias, stride, padding, dilation, groups = (
        call.argument(i + 1, name, default)
        for i, (name, default) in enumerate(zip(names, (None, None, 1, 0, 1, 1), strict=True))
    )
    if not isinstance(weight, Weight) or not isinstance(bias, Weight | None):
        raise ValueError("the weights of a convolution must be parameters")
    return _add_conv(call, weight.tensor.shape[2:], stride, padding, dilation, groups, weight, bias)


def _add_conv(
    call: Call,
    kernel: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
    weight: Weight,
    bias: Weight | None,
) -> Index:
    value = call.argument(0, "input")
    before = value.padding if isinstance(value, Padded) else (0, 0, 0, 0)
    source = value.source if isinstance(value, Padded) else call.tensor()
    if call.spec(source).layout != "image":
        raise ValueError(f"a convolution must read a feature map, got {call.spec(source)}")
    kernel, stride, dilation = _pair(kernel), _pair(stride), _pair(dilation)
    channels, c_in = len(weight.tensor), weight.tensor.shape[1] * groups
    sides: Sides | str = "same"
    if padding != "tensorflow":
        own = _sides(padding, kernel, dilation)
        sides = (before[0] + own[0], before[1] + own[1], before[2] + own[2], before[3] + own[3])
        same = Conv(1, kernel, stride, "same", dilation).operator(call.spec(source))
        if isinstance(value, Padded) and isinstance(same, Conv2d) and sides == same.padding:
            sides = "same"  # which depends on the size of the images
    follows = groups > 1 and c_in == channels
    return call.add(
        "conv2d",
        source,
        **_of_function(call, weight=weight, bias=bias),
        channels=None if follows else channels,
        kernel=_unless(kernel, (1, 1)),
        stride=_unless(stride, (1, 1)),
        padding=_unless(sides, (0, 0, 0, 0)),
        dilation=_unless(dilation, (1, 1)),
        group_size=c_in // groups if groups > 1 else None,
        bias=True if bias is not None else None,
    )


def _sides(padding: Any, kernel: Pair, dilation: Pair) -> Sides:
    """Padding of a convolution at top, left, bottom and right."""
    if padding == "same":
        height, width = (d * (k - 1) for d, k in zip(dilation, kernel, strict=True))
        return (height // 2, width // 2, height - height // 2, width - width // 2)
    rows, columns = _pair(0 if padding == "valid" else padding)
    return (rows, columns, rows, columns)


def _of_function(call: Call, **weights: Weight | None) -> dict[str, Any]:
    """Arguments of `Call.add` for a layer that a function computes; empty for a module, whose path and
    weights are known."""
    if call.module is not None:
        return {}
    found = {name: weight for name, weight in weights.items() if weight is not None}
    return {"path": next(iter(found.values())).module or call.path(), "weights": found}


def _linear(call: Call) -> Index:
    source, module = call.tensor(), call.module
    if module is not None:
        assert isinstance(module, nn.Linear)
        weight, bias = Weight(module.weight), None if module.bias is None else Weight(module.bias)
    else:
        weight, bias = call.argument(1, "weight"), call.argument(2, "bias")
    if not isinstance(weight, Weight) or not isinstance(bias, Weight | None):
        raise ValueError("the weights of a linear layer must be parameters")
    if call.spec(source).layout == "image":
        raise ValueError("a linear layer must not read the columns of a feature map")
    return call.add(
        "linear",
        source,
        **_of_function(call, weight=weight, bias=bias),
        channels=len(weight.tensor),
        bias=True if bias is not None else None,
    )


def _batch_norm(call: Call) -> Index:
    module = call.module
    assert isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d)
    if not module.affine or not module.track_running_stats:
        raise ValueError("a batch norm must have weights and running statistics")
    return _add_batch_norm(call, module.num_features, module.eps)


def _batch_norm_function(call: Call) -> Index:
    names = ("running_mean", "running_var", "weight", "bias")
    weights = {name: call.argument(i + 1, name) for i, name in enumerate(names)}
    if not all(isinstance(weight, Weight) for weight in weights.values()):
        raise ValueError("a batch norm must have weights and running statistics")
    others = _of_function(call, weight=weights.pop("weight"), **weights)
    return _add_batch_norm(call, others["weights"]["weight"].numel, call.argument(7, "eps", 1e-5), **others)


def _add_batch_norm(call: Call, features: int, eps: float, **others: Any) -> Index:
    spec = call.spec(call.tensor())
    if spec.layout == "tokens":
        raise ValueError("a batch norm must normalize a feature map or a vector, not tokens")
    if features != spec.channels:
        raise ValueError(f"a batch norm must have {spec.channels} channels, got {features}")
    return call.add("batch_norm", call.tensor(), eps=_unless(eps, 1e-5), **others)


def _layer_norm(call: Call) -> Index:
    module = call.module
    assert isinstance(module, nn.LayerNorm)
    if not module.elementwise_affine or module.bias is None:
        raise ValueError("a layer norm must have a weight and a bias")
    return _add_layer_norm(call, module.normalized_shape, module.eps)


def _layer_norm_function(call: Call) -> Index:
    shape, eps, others = _norm_arguments(call, "layer norm", "normalized_shape")
    return _add_layer_norm(call, shape, eps, **others)


def _add_layer_norm(call: Call, shape: Any, eps: float, **others: Any) -> Index:
    source = call.tensor()
    if call.spec(source).layout == "image" or tuple(shape) != (call.spec(source).channels,):
        raise ValueError(f"a layer norm must be over the channels, the last dimension, got {tuple(shape)}")
    return call.add("layer_norm", source, eps=_unless(eps, 1e-5), **others)


def _group_norm(call: Call) -> Index:
    module = call.module
    assert isinstance(module, nn.GroupNorm)
    if not module.affine:
        raise ValueError("a group norm must have a weight and a bias")
    return _add_group_norm(call, module.num_groups, module.eps)


def _group_norm_function(call: Call) -> Index:
    groups, eps, others = _norm_arguments(call, "group norm", "num_groups")
    return _add_group_norm(call, groups, eps, **others)


def _add_group_norm(call: Call, groups: int, eps: float, **others: Any) -> Index:
    source = call.tensor()
    spec = call.spec(source)
    if spec.layout != "image":
        raise ValueError(f"a group norm must be of a feature map, got {spec}")
    return call.add(
        "group_norm", source, group_size=spec.channels // groups, eps=_unless(eps, 1e-5), **others
    )


def _norm_arguments(call: Call, kind: str, name: str) -> tuple[Any, float, dict[str, Any]]:
    """The argument `name` of the function of a norm, its epsilon, and its weights."""
    value, weight, bias = (call.argument(i, key) for i, key in ((1, name), (2, "weight"), (3, "bias")))
    if not isinstance(weight, Weight) or not isinstance(bias, Weight):
        raise ValueError(f"a {kind} must have a weight and a bias")
    return value, call.argument(4, "eps", 1e-5), _of_function(call, weight=weight, bias=bias)


def _max_pool(call: Call) -> Index:
    module = call.module
    assert isinstance(module, nn.MaxPool2d)
    window = (module.kernel_size, module.stride, module.padding)
    return _add_max_pool(call, *window, module.dilation, module.ceil_mode)


def _max_pool_function(call: Call) -> Index:
    names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
    values = [
        call.argument(i + 1, name, default)
        for i, (name, default) in enumerate(zip(names, (None, None, 0, 1, False), strict=True))
    ]
    return _add_max_pool(call, *values)


def _add_max_pool(call: Call, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil: Any) -> Index:
    if _pair(dilation) != (1, 1):
        raise ValueError(f"the dilation of a pool must be 1, got {dilation}")
    return _add_pool(call, "max_pool2d", kernel, stride, padding, ceil)


def _add_pool(call: Call, op: str, kernel: Any, stride: Any, padding: Any, ceil: Any) -> Index:
    return call.add(
        op,
        call.tensor(),
        kernel=_one(kernel, "window"),
        stride=_one(stride or kernel, "stride"),
        padding=_unless(_one(padding, "padding"), 0),
        ceil_mode=True if ceil else None,
    )


def _avg_pool(call: Call) -> Index:
    module = call.module
    assert isinstance(module, nn.AvgPool2d)
    window = (module.kernel_size, module.stride, module.padding, module.ceil_mode)
    return _add_avg_pool(call, *window, module.count_include_pad, module.divisor_override)


def _avg_pool_function(call: Call) -> Index:
    names = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")
    values = [
        call.argument(i + 1, name, default)
        for i, (name, default) in enumerate(zip(names, (None, None, 0, False, True, None), strict=True))
    ]
    return _add_avg_pool(call, *values)


def _add_avg_pool(
    call: Call, kernel: Any, stride: Any, padding: Any, ceil: Any, include_pad: Any, divisor: Any
) -> Index:
    if divisor is not None or (_pair(padding) != (0, 0) and not include_pad):
        raise ValueError(
            "an average pool must have count_include_pad=True or no padding, and no divisor_override"
        )
    return _add_pool(call, "avg_pool2d", kernel, stride, padding, ceil)


def _adaptive_pool(call: Call) -> Index:
    size = call.module.output_size if call.module else call.argument(1, "output_size")
    grid = _pair(size)
    return call.add("adaptive_avg_pool2d", call.tensor(), size=_unless(grid, (1, 1)))


def _max(call: Call) -> Index:
    """The largest value of each channel."""
    source = call.tensor()
    if call.module is not None or call.node.target is F.adaptive_max_pool2d:
        size = call.module.output_size if call.module else call.argument(1, "output_size")
        if _pair(size) == (1, 1):
            return call.add("global_max_pool", source)
    elif _dimensions(call, source) == (2, 3) and call.spec(source).layout == "image":
        pooled = call.add("global_max_pool", source)
        return pooled if call.argument(2, "keepdim", False) else call.add("flatten", pooled, suffix=".flat")
    raise ValueError("a maximum must be over all pixels")


@dataclass(frozen=True)
class RowMeans(Deferred):
    """The mean of each row of a feature map."""

    source: int
    keepdim: bool


def _dimensions(call: Call, source: int) -> tuple[int, ...]:
    dims = call.argument(1, "dim")
    dims = tuple(dims) if isinstance(dims, tuple | list) else (dims,)
    rank = len(call.spec(source).shape) + 1
    return tuple(sorted(d % rank for d in dims if isinstance(d, int)))


def _mean(call: Call) -> Any:
    value, keepdim = call.argument(0, "input"), bool(call.argument(2, "keepdim", False))
    if (
        isinstance(value, RowMeans)
        and value.keepdim == keepdim
        and call.argument(1, "dim") in (2, -2 + (not keepdim))
    ):
        pooled = call.add("global_avg_pool", value.source)
        return pooled if keepdim else call.add("flatten", pooled, suffix=".flat")
    without = _without_first_tokens(call, value)
    if without and _dimensions(call, without[0]) == (1,) and not keepdim:
        return call.add("mean_tokens", without[0], skip=_unless(without[1], 0))
    source = call.tensor()
    spec, dims = call.spec(source), _dimensions(call, source)
    if spec.layout == "image" and dims == (2, 3):
        pooled = call.add("adaptive_avg_pool2d", source)
        return pooled if keepdim else call.add("flatten", pooled, suffix=".flat")
    if spec.layout == "image" and dims == (3,):
        return RowMeans("the means of rows", source, keepdim)
    if spec.layout == "tokens" and len(spec.size) == 2 and dims == (1, 2) and not keepdim:
        pooled = call.add("adaptive_avg_pool2d", call.add("channels_first", source))
        return call.add("flatten", pooled, suffix=".flat")
    raise ValueError(f"a mean must be over all pixels, got the dimensions {dims}")


def _without_first_tokens(call: Call, value: object) -> tuple[Index, int] | None:
    """The index of the tokens in `value`, and the number of tokens at the start that are left out."""
    source = value.source if isinstance(value, View) else value
    if (
        not isinstance(source, Index)
        or call.spec(source).layout != "tokens"
        or len(call.spec(source).size) != 1
    ):
        return None
    if not isinstance(value, View):
        return source, 0
    skip = call.spec(source).pixels - value.indices.shape[1]
    return (
        (Index(source), skip) if torch.equal(value.indices, call.lowering.indices(source)[:, skip:]) else None
    )


def _same(call: Call) -> Any:
    value = call.argument(0, "input")
    return View(value.source, value.indices.contiguous()) if isinstance(value, View) else value


def _concat(call: Call) -> Any:
    tensors, dim = call.argument(0, "tensors"), call.argument(1, "dim", 0)
    if not isinstance(tensors, tuple | list) or not tensors:
        raise ValueError("a concatenation must be of outputs of operators")
    if isinstance(tensors[0], Weight):
        return _prepend(call, tensors, dim)
    if all(isinstance(tensor, Index | View) for tensor in tensors):
        together = joined(call, list(tensors), dim)
        if together is not None:
            return together
    indices = [call.index(tensor) for tensor in tensors]
    if any(index is None for index in indices):
        raise ValueError("a concatenation must be of outputs of operators")
    found = [index for index in indices if index is not None]
    spec = call.spec(found[0])
    axis = len(call.shape) - 1 if spec.layout == "tokens" else 1
    if dim % len(call.shape) != axis or (spec.layout == "tokens" and len(spec.size) > 1):
        raise ValueError(f"only channels can be concatenated, got dimension {dim}")
    return found[0] if len(found) == 1 else call.add("concat", *found)


def _prepend(call: Call, tensors: Sequence[Any], dim: int) -> Index:
    *weights, last = tensors
    source = call.index(last)
    if source is None or call.spec(source).layout != "tokens" or len(call.spec(source).size) != 1 or dim != 1:
        raise ValueError("a parameter can only be concatenated with tokens and must come before them")
    channels = call.spec(source).channels
    for weight in reversed(weights):
        if not isinstance(weight, Weight) or weight.numel % channels:
            raise ValueError("a parameter can only be concatenated with tokens and must come before them")
        path, own = weight.name or call.path("tokens"), {"weight": weight}
        source = call.add("prepend_tokens", source, path=path, weights=own, count=weight.numel // channels)
    return source


def _merge_tokens(call: Call) -> Index:
    source = call.tensor()
    spec = call.spec(source)
    if spec.layout != "tokens" or len(spec.size) != 2 or any(side % 2 for side in spec.size):
        raise ValueError(f"tokens can only be merged in a grid with even sides, got {spec}")
    return call.add("merge_tokens", source)


RULES: Mapping[object, Rule] = {
    nn.Conv2d: _conv,
    F.conv2d: _conv_function,
    "timm.layers.conv2d_same.Conv2dSame": _conv_same,
    F.pad: _pad,
    nn.ZeroPad2d: _pad,
    nn.ConstantPad2d: _pad,
    nn.Linear: _linear,
    F.linear: _linear,
    nn.BatchNorm2d: _batch_norm,
    nn.BatchNorm1d: _batch_norm,
    F.batch_norm: _batch_norm_function,
    nn.LayerNorm: _layer_norm,
    F.layer_norm: _layer_norm_function,
    nn.GroupNorm: _group_norm,
    F.group_norm: _group_norm_function,
    nn.MaxPool2d: _max_pool,
    F.max_pool2d: _max_pool_function,
    torch.max_pool2d: _max_pool_function,
    nn.AdaptiveMaxPool2d: _max,
    F.adaptive_max_pool2d: _max,
    "amax": _max,
    torch.amax: _max,
    nn.AvgPool2d: _avg_pool,
    F.avg_pool2d: _avg_pool_function,
    nn.AdaptiveAvgPool2d: _adaptive_pool,
    F.adaptive_avg_pool2d: _adaptive_pool,
    "mean": _mean,
    torch.mean: _mean,
    torch.cat: _concat,
    torch.concat: _concat,
    operator.getitem: item,
    nn.MultiheadAttention: attention_rules.multi_head_attention,
    F.scaled_dot_product_attention: attention_rules.dot_product_attention,
    swin_transformer.shifted_window_attention: attention_rules.window_attention,
    swin_transformer._patch_merging_pad: _merge_tokens,
    nn.GELU: arithmetic.gelu,
    F.gelu: arithmetic.gelu,
    nn.LeakyReLU: arithmetic.leaky_relu,
    F.leaky_relu: arithmetic.leaky_relu,
    nn.ELU: arithmetic.elu,
    F.elu: arithmetic.elu,
    nn.PReLU: arithmetic.prelu,
    F.prelu: arithmetic.prelu,
    **{
        key: rule
        for rule, keys in (
            (arithmetic.add, (operator.add, operator.iadd, torch.add, "add", "add_")),
            (arithmetic.subtract, (operator.sub, operator.isub, torch.sub, "sub", "sub_")),
            (arithmetic.multiply, (operator.mul, operator.imul, torch.mul, "mul", "mul_")),
            (arithmetic.divide, (operator.truediv, operator.itruediv, torch.div, "div", "div_")),
            (arithmetic.clamp, (nn.Hardtanh, F.hardtanh, torch.clamp, "clamp", "clamp_")),
            (attention_rules.product, (operator.matmul, torch.matmul, "matmul")),
            (attention_rules.softmax, (nn.Softmax, F.softmax, torch.softmax, "softmax")),
            (_same, ("contiguous", "clone", "float", "type_as", "to")),
        )
        for key in keys
    },
    **dict.fromkeys(
        (
            *(nn.Flatten, nn.Unflatten, nn.ChannelShuffle, nn.PixelUnshuffle, F.channel_shuffle),
            *(F.pixel_unshuffle, torch.flatten, torch.reshape, torch.transpose, torch.permute, torch.chunk),
            *(torch.split, torch.unbind, torch.squeeze, torch.unsqueeze, torch.narrow, torch.roll),
            *("flatten", "unflatten", "view", "reshape", "transpose", "permute", "chunk", "split", "unbind"),
            *("squeeze", "unsqueeze", "narrow", "roll", "expand", "expand_as", "movedim", "swapaxes"),
        ),
        rearrange,
    ),
    **{
        key: arithmetic.activation(name)
        for name, keys in {
            "relu": (nn.ReLU, F.relu, torch.relu, torch.relu_, "relu", "relu_"),
            "relu6": (nn.ReLU6, F.relu6),
            "hard_swish": (nn.Hardswish, F.hardswish),
            "swish": (nn.SiLU, F.silu),
            "mish": (nn.Mish, F.mish),
            "sigmoid": (nn.Sigmoid, F.sigmoid, torch.sigmoid, "sigmoid", "sigmoid_"),
            "hard_sigmoid": (nn.Hardsigmoid, F.hardsigmoid),
            "tanh": (nn.Tanh, F.tanh, torch.tanh, "tanh"),
        }.items()
        for key in keys
    },
}
"""Rule of each class of modules, of each function, and of each method of tensors by its name."""
