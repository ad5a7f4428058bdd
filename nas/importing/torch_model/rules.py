"""The table of rules that translate torch modules, functions and methods to operators.

A rule either reproduces what its class, function or method computes, or refuses it with a `ValueError`.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models import swin_transformer

from nas.importing.torch_model.lowering import Call, Index, Rule, Split, Weight
from nas.importing.torch_model.trace import BATCH

Pair = tuple[int, int]


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
    """None for a default, which a layer leaves out."""
    return None if value == default else value


def _conv(call: Call) -> Index:
    module = call.module
    assert isinstance(module, nn.Conv2d)
    if module.padding_mode != "zeros":
        raise ValueError(f"the padding of a convolution must be zeros, got {module.padding_mode!r}")
    kernel, stride, dilation = _pair(module.kernel_size), _pair(module.stride), _pair(module.dilation)
    if module.padding == "same":
        totals = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        before = [total // 2 for total in totals]
        padding = (*before, *(total - half for total, half in zip(totals, before, strict=True)))
    else:
        padding = _pair(0 if module.padding == "valid" else module.padding) * 2
    return _add_conv(call, module, kernel, stride, padding, dilation)


def _add_conv(
    call: Call, module: nn.Conv2d, kernel: Pair, stride: Pair, padding: Any, dilation: Pair
) -> Index:
    grouped = module.groups > 1
    follows = grouped and module.in_channels == module.out_channels
    return call.add(
        "conv2d",
        call.tensor(),
        channels=None if follows else module.out_channels,
        kernel=_unless(kernel, (1, 1)),
        stride=_unless(stride, (1, 1)),
        padding=_unless(padding, (0, 0, 0, 0)),
        dilation=_unless(dilation, (1, 1)),
        group_size=module.in_channels // module.groups if grouped else None,
        bias=True if module.bias is not None else None,
    )


def _linear(call: Call) -> Index:
    module, source = call.module, call.tensor()
    assert isinstance(module, nn.Linear)
    if call.spec(source).layout == "image":
        raise ValueError("a linear layer must not read the columns of a feature map")
    bias = True if module.bias is not None else None
    return call.add("linear", source, channels=module.out_features, bias=bias)


def _batch_norm(call: Call) -> Index:
    module = call.module
    assert isinstance(module, nn.BatchNorm2d)
    if not module.affine or not module.track_running_stats:
        raise ValueError("a batch norm must have weights and running statistics")
    channels = call.spec(call.tensor()).channels
    if module.num_features != channels:
        raise ValueError(f"a batch norm must have {channels} channels, got {module.num_features}")
    return call.add("batch_norm", call.tensor(), eps=_unless(module.eps, 1e-5))


def _layer_norm(call: Call) -> Index:
    module = call.module
    assert isinstance(module, nn.LayerNorm)
    if not module.elementwise_affine or module.bias is None:
        raise ValueError("a layer norm must have a weight and a bias")
    return _add_layer_norm(call, module.normalized_shape, module.eps)


def _layer_norm_function(call: Call) -> Index:
    shape, weight, bias = (
        call.argument(i, name) for i, name in ((1, "normalized_shape"), (2, "weight"), (3, "bias"))
    )
    if not isinstance(weight, Weight) or not isinstance(bias, Weight):
        raise ValueError("a layer norm must have a weight and a bias")
    path = weight.name.rpartition(".")[0]
    tensors = {"weight": weight.name, "bias": bias.name}
    return _add_layer_norm(call, shape, call.argument(4, "eps", 1e-5), path=path, tensors=tensors)


def _add_layer_norm(call: Call, shape: Any, eps: float, **names: Any) -> Index:
    source = call.tensor()
    if call.spec(source).layout == "image" or tuple(shape) != (call.spec(source).channels,):
        raise ValueError(f"a layer norm must be over the channels, the last dimension, got {tuple(shape)}")
    return call.add("layer_norm", source, eps=_unless(eps, 1e-5), **names)


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
        raise ValueError("an average pool must count its padding as zeros and have no divisor of its own")
    return _add_pool(call, "avg_pool2d", kernel, stride, padding, ceil)


def _adaptive_pool(call: Call) -> Index:
    size = call.module.output_size if call.module else call.argument(1, "output_size")
    grid = _pair(size)
    return call.add("adaptive_avg_pool2d", call.tensor(), size=_unless(grid, (1, 1)))


def _mean(call: Call) -> Index:
    source = call.tensor()
    spec = call.spec(source)
    dims, keepdim = call.argument(1, "dim"), bool(call.argument(2, "keepdim", False))
    dims = tuple(dims) if isinstance(dims, tuple | list) else (dims,)
    rank = len(spec.shape) + 1
    dims = tuple(sorted(d % rank for d in dims if isinstance(d, int)))
    if spec.layout == "image" and dims == (2, 3):
        pooled = call.add("adaptive_avg_pool2d", source)
        return pooled if keepdim else call.add("flatten", pooled, suffix=".flat")
    if spec.layout == "tokens" and dims == tuple(range(1, rank - 1)) and len(dims) == 1 and not keepdim:
        return call.add("mean_tokens", source)
    raise ValueError(f"a mean must be over all pixels, got the dimensions {dims}")


def _flatten(call: Call) -> Index:
    source = call.tensor()
    spec = call.spec(source)
    if spec.layout == "vector":
        return Index(source)
    if spec.layout == "tokens" and spec.pixels > 1:
        raise ValueError("tokens must be reduced to one vector before they are flattened")
    if len(call.shape) != 2:
        raise ValueError(f"only all dimensions of an image can be flattened, got the shape {call.shape}")
    return call.add("flatten", source)


def _view(call: Call) -> Any:
    """A flattened tensor, or one step of a channel shuffle."""
    source = call.argument(0, "input")
    if isinstance(source, Split) and source.transposed:
        if call.shape[1:] != call.spec(source.source).shape:
            raise ValueError(f"a channel shuffle must keep the shape of its input, got {call.shape}")
        return call.add("channel_shuffle", source.source, groups=source.groups)
    if not isinstance(source, Index):
        raise ValueError("a view must be of the output of an operator")
    spec = call.spec(source)
    if call.shape[1:] == spec.shape:
        return source
    if len(call.shape) == 2:
        return _flatten(call)
    if call.shape[1:] == (spec.channels, spec.pixels) and spec.layout == "image":
        return Split(source, rows=True)
    if len(call.shape) == 5 and spec.layout == "image" and call.shape[3:] == spec.size:
        return Split(source, groups=call.shape[1])
    raise ValueError(
        f"a view must flatten a tensor, shuffle channels or make tokens, got {spec.shape} > {call.shape[1:]}"
    )


def _transpose(call: Call) -> Split | Index:
    source = call.argument(0, "input")
    dims = {call.argument(1, "dim0"), call.argument(2, "dim1")}
    if isinstance(source, Split) and source.rows and dims == {1, 2}:
        return call.add("image_to_tokens", source.source)
    if not isinstance(source, Split) or not source.groups or dims != {1, 2}:
        raise ValueError("a transposition must be part of a channel shuffle")
    return Split(source.source, groups=source.groups, transposed=True)


def _contiguous(call: Call) -> Any:
    return call.argument(0, "input")


def _shuffle(call: Call) -> Index:
    groups = call.module.groups if call.module else call.argument(1, "groups")
    return call.add("channel_shuffle", call.tensor(), groups=groups)


def _permute(call: Call) -> Index:
    first = call.argument(1, "dims")
    dims = tuple(first) if isinstance(first, tuple | list) else tuple(call.args[1:])
    rows = call.argument(0, "input")
    if isinstance(rows, Split) and rows.rows and dims == (0, 2, 1):
        return call.add("image_to_tokens", rows.source)
    source = call.tensor()
    layout = call.spec(source).layout
    if layout == "image" and dims == (0, 2, 3, 1):
        return call.add("channels_last", source)
    if layout == "tokens" and dims == (0, 3, 1, 2):
        return call.add("channels_first", source)
    raise ValueError(f"a permutation must move the channels to the end or back, got {dims}")


def _chunk(call: Call) -> Split:
    if call.argument(2, "dim", 0) != 1:
        raise ValueError("only channels can be split")
    sizes = [shape[1] for shape in call.lowering.shapes[call.node.name]]
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    return Split(call.tensor(), tuple((end - size, end) for end, size in zip(ends, sizes, strict=True)))


def _is_token(index: Any) -> bool:
    """Whether an index is `[:, n]`."""
    return isinstance(index, tuple) and index[:1] == (slice(None),) and list(map(type, index[1:])) == [int]


def _item(call: Call) -> Any:
    source, i = call.args
    if isinstance(source, tuple) and isinstance(i, int):
        return source[i]
    if isinstance(source, Index) and call.spec(source).layout == "tokens" and _is_token(i):
        return call.add("take_token", source, index=_unless(i[1], 0), path=call.path("take_token"))
    if not isinstance(source, Split) or not source.parts or not isinstance(i, int):
        raise ValueError("tensors must not be indexed, apart from the parts of split channels")
    start, end = source.parts[i]
    return call.add("slice", source.source, start=start, end=end)


def _concat(call: Call) -> Index:
    tensors, dim = call.argument(0, "tensors"), call.argument(1, "dim", 0)
    if len(tensors) == 2 and isinstance(tensors[0], Weight) and isinstance(tensors[1], Index):
        return _prepend(call, tensors[0], tensors[1], dim)
    if not isinstance(tensors, tuple | list) or not all(isinstance(t, Index) for t in tensors):
        raise ValueError("a concatenation must be of outputs of operators")
    specs = [call.spec(tensor) for tensor in tensors]
    if dim % len(call.shape) != 1 or specs[0].layout == "tokens":
        raise ValueError(f"only channels can be concatenated, got dimension {dim}")
    return Index(tensors[0]) if len(tensors) == 1 else call.add("concat", *tensors)


def _prepend(call: Call, weight: Weight, source: Index, dim: int) -> Index:
    spec = call.spec(source)
    if spec.layout != "tokens" or len(spec.size) != 1 or dim != 1 or weight.numel % spec.channels:
        raise ValueError("a parameter can only be concatenated with tokens, before them")
    count = weight.numel // spec.channels
    return call.add("prepend_tokens", source, path=weight.name, tensors={"weight": weight.name}, count=count)


def _expand(call: Call) -> Weight:
    """A parameter for each image of the batch."""
    source = call.argument(0, "input")
    if not isinstance(source, Weight) or math.prod(call.shape) != BATCH * source.numel:
        raise ValueError("only a parameter can be expanded, to the size of the batch")
    return source


def _attention(call: Call) -> tuple[Index, None]:
    module, source = call.module, call.tensor(0, "query")
    assert isinstance(module, nn.MultiheadAttention)
    others = [call.argument(i, name) for i, name in ((1, "key"), (2, "value"))]
    masks = [call.argument(i, name) for i, name in ((3, "key_padding_mask"), (5, "attn_mask"))]
    if others != [source, source] or any(mask is not None for mask in masks):
        raise ValueError("queries, keys and values must be of the same tokens, without a mask")
    if call.argument(4, "need_weights", True):
        raise ValueError("attention must be called with need_weights=False")
    special = (module.bias_k, module.bias_v, module.q_proj_weight)
    if not module.batch_first or module.add_zero_attn or any(weight is not None for weight in special):
        raise ValueError("attention must have batch_first=True and no bias or projection of keys of its own")
    bias = True if module.in_proj_bias is not None else None
    channels, path = module.embed_dim, str(call.node.target)
    names = ("weight", "bias") if bias else ("weight",)
    tensors = {name: f"{path}.in_proj_{name}" for name in names}
    qkv = {"channels": 3 * channels, "bias": bias, "parts": 3}
    projected = call.add("linear", source, path=f"{path}.in_proj", tensors=tensors, **qkv)
    mixed = call.add("attention", projected, path=f"{path}.attention", heads=module.num_heads)
    bias = True if module.out_proj.bias is not None else None
    return call.add("linear", mixed, path=f"{path}.out_proj", channels=channels, bias=bias), None


def _relative_positions(call: Call) -> Weight:
    """The table of the numbers for the distances of tokens."""
    table = call.argument(0, "relative_position_bias_table")
    if not isinstance(table, Weight):
        raise ValueError("relative positions must be a table of parameters")
    return table


def _window_attention(call: Call) -> Index:
    names = (
        *("input", "qkv_weight", "proj_weight", "relative_position_bias", "window_size", "num_heads"),
        *("shift_size", "attention_dropout", "dropout", "qkv_bias", "proj_bias", "logit_scale"),
    )
    values = {name: call.argument(i, name) for i, name in enumerate(names)}
    source, window, heads = call.tensor(), _pair(values["window_size"]), values["num_heads"]
    spec, table = call.spec(source), values["relative_position_bias"]
    if values["logit_scale"] is not None:
        raise ValueError("attention must have dot products, not those of normalized vectors (Swin V2)")
    if any(side % size for side, size in zip(spec.size, window, strict=True)):
        raise ValueError(f"the grid must have whole windows of {window} tokens, got {spec.size}")
    weights = [values[name] for name in ("qkv_weight", "proj_weight")]
    if not all(isinstance(weight, Weight) for weight in weights):
        raise ValueError("the weights of attention must be parameters")
    if not isinstance(table, Weight) or table.numel != (2 * window[0] - 1) * (2 * window[1] - 1) * heads:
        raise ValueError("relative positions must be a table with a number for each distance and head")
    qkv, projection = (weight.name.rpartition(".")[0] for weight in weights)
    biases = [True if values[name] is not None else None for name in ("qkv_bias", "proj_bias")]
    projected = call.add("linear", source, path=qkv, channels=3 * spec.channels, parts=3, bias=biases[0])
    mixed = call.add(
        "window_attention",
        projected,
        path=f"{qkv.rpartition('.')[0]}.attention".lstrip("."),
        tensors={"bias": table.name},
        heads=heads,
        window=window,
        shift=_unless(_pair(values["shift_size"]), (0, 0)),
    )
    return call.add("linear", mixed, path=projection, channels=spec.channels, bias=biases[1])


def _merge_tokens(call: Call) -> Index:
    source = call.tensor()
    spec = call.spec(source)
    if spec.layout != "tokens" or len(spec.size) != 2 or any(side % 2 for side in spec.size):
        raise ValueError(f"tokens can only be merged in a grid with even sides, got {spec}")
    return call.add("merge_tokens", source)


def _operands(call: Call) -> tuple[Any, Any]:
    return call.argument(0, "input"), call.argument(1, "other")


def _add(call: Call) -> Index:
    a, b = _operands(call)
    if isinstance(a, Index) and isinstance(b, Weight):
        return _add_positions(call, a, b)
    if not isinstance(a, Index) or not isinstance(b, Index) or call.kwargs.get("alpha", 1) != 1:
        raise ValueError("a sum must be of two outputs of operators")
    if call.spec(a) != call.spec(b):
        raise ValueError(
            f"the tensors of a sum must have equal shapes, got {call.spec(a)} and {call.spec(b)}"
        )
    return call.add("add", a, b)


def _add_positions(call: Call, source: Index, weight: Weight) -> Index:
    spec = call.spec(source)
    if spec.layout != "tokens" or len(spec.size) != 1 or weight.numel != spec.numel:
        raise ValueError("a parameter can only be added to tokens, with a number for each")
    tensors = {"grid": weight.name}
    return call.add("add_positions", source, path=weight.name, tensors=tensors, grid=(1, spec.pixels))


def _multiply(call: Call) -> Index:
    a, b = _operands(call)
    if isinstance(a, Weight):
        a, b = b, a
    if isinstance(a, Index) and isinstance(b, Weight):
        return _scale(call, a, b)
    if not isinstance(a, Index) or not isinstance(b, Index):
        raise ValueError("a product must be of two outputs of operators, or of one and a weight per channel")
    if call.spec(a).pixels < call.spec(b).pixels:
        a, b = b, a
    specs = call.spec(a), call.spec(b)
    if specs[0] != specs[1] and (specs[0].channels != specs[1].channels or specs[1].size != (1, 1)):
        raise ValueError(f"the tensors of a product must have equal shapes, got {specs[0]} and {specs[1]}")
    return call.add("multiply", a, b)


def _scale(call: Call, source: int, weight: Weight) -> Index:
    spec = call.spec(source)
    if weight.numel != spec.channels or spec.layout == "vector":
        raise ValueError(
            f"a factor must have a number for each of {spec.channels} channels, got {weight.numel}"
        )
    of_image = True if spec.layout == "image" else None
    tensors = {"weight": weight.name}
    return call.add("scale", source, path=weight.name, tensors=tensors, of_image=of_image)


def _activation(name: str) -> Rule:
    return lambda call: call.add(name, call.tensor())


def _gelu(call: Call) -> Index:
    kind = getattr(call.module, "approximate", None) or call.kwargs.get("approximate", "none")
    if kind != "none":
        raise ValueError("GELU must not be approximated")
    return call.add("gelu", call.tensor())


def _leaky_relu(call: Call) -> Index:
    slope = getattr(call.module, "negative_slope", None) or call.argument(1, "negative_slope", 0.01)
    return call.add("leaky_relu", call.tensor(), slope=_unless(slope, 0.01))


def _elu(call: Call) -> Index:
    if (getattr(call.module, "alpha", None) or call.argument(1, "alpha", 1.0)) != 1:
        raise ValueError("the parameter of ELU must be 1")
    return call.add("elu", call.tensor())


RULES: Mapping[object, Rule] = {
    nn.Conv2d: _conv,
    nn.Linear: _linear,
    nn.BatchNorm2d: _batch_norm,
    nn.LayerNorm: _layer_norm,
    F.layer_norm: _layer_norm_function,
    nn.MaxPool2d: _max_pool,
    F.max_pool2d: _max_pool_function,
    torch.max_pool2d: _max_pool_function,
    nn.AvgPool2d: _avg_pool,
    F.avg_pool2d: _avg_pool_function,
    nn.AdaptiveAvgPool2d: _adaptive_pool,
    F.adaptive_avg_pool2d: _adaptive_pool,
    "mean": _mean,
    torch.mean: _mean,
    nn.Flatten: _flatten,
    torch.flatten: _flatten,
    "flatten": _flatten,
    "view": _view,
    "reshape": _view,
    torch.reshape: _view,
    "transpose": _transpose,
    torch.transpose: _transpose,
    "contiguous": _contiguous,
    "clone": _contiguous,
    nn.ChannelShuffle: _shuffle,
    F.channel_shuffle: _shuffle,
    "permute": _permute,
    torch.permute: _permute,
    "chunk": _chunk,
    torch.chunk: _chunk,
    "split": _chunk,
    torch.split: _chunk,
    operator.getitem: _item,
    torch.cat: _concat,
    torch.concat: _concat,
    operator.add: _add,
    operator.iadd: _add,
    torch.add: _add,
    "add": _add,
    "add_": _add,
    operator.mul: _multiply,
    operator.imul: _multiply,
    torch.mul: _multiply,
    "mul": _multiply,
    "mul_": _multiply,
    **{
        key: _activation(name)
        for name, keys in {
            "relu": (nn.ReLU, F.relu, torch.relu, torch.relu_, "relu", "relu_"),
            "relu6": (nn.ReLU6, F.relu6),
            "hard_swish": (nn.Hardswish, F.hardswish),
            "swish": (nn.SiLU, F.silu),
            "sigmoid": (nn.Sigmoid, F.sigmoid, torch.sigmoid, "sigmoid", "sigmoid_"),
            "hard_sigmoid": (nn.Hardsigmoid, F.hardsigmoid),
            "tanh": (nn.Tanh, F.tanh, torch.tanh, "tanh"),
        }.items()
        for key in keys
    },
    nn.MultiheadAttention: _attention,
    swin_transformer.shifted_window_attention: _window_attention,
    swin_transformer._get_relative_position_bias: _relative_positions,
    swin_transformer._patch_merging_pad: _merge_tokens,
    "expand": _expand,
    nn.GELU: _gelu,
    F.gelu: _gelu,
    nn.LeakyReLU: _leaky_relu,
    F.leaky_relu: _leaky_relu,
    nn.ELU: _elu,
    F.elu: _elu,
}
"""Rule of each class of modules, of each function, and of each method of tensors by its name."""
