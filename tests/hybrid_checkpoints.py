"""Small checkpoints of NASViT and ElasticViT with random weights, and the computations of their code.

Names, shapes and forward passes are written from the description of the formats, not from the toolkit's
spaces, so that the tests compare two independent readings.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

State = dict[str, Tensor]
CLASSES = 5

_COMMON = {"family": "hybrid", "outputs": CLASSES, "channels": 3, "resolutions": [40, 48], "input_size": 44}
_CONV = {"kind": "conv", "depth": [1, 2], "per": "stage", "shortcut": "projection"}
_ATTENTION = {"kind": "attention", "depth": [1, 2], "shortcut": "projection"}
NASVIT: dict[str, Any] = _COMMON | {
    "name": "small nasvit",
    "stem": {"width": [4, 8], "activation": "swish"},
    "stages": [
        stage | {"activation": "swish"}
        for stage in (
            _CONV | {"width": [8, 16], "kernel": [3, 5]},
            _CONV | {"width": [8, 16], "expand": [2, 3], "stride": 2, "se": True},
            {
                **_ATTENTION,
                "width": [16, 24],
                "depth": [1, 2, 3],
                "expand": [2, 3],
                "stride": 2,
                "value_ratio": [4],
            },
            {**_ATTENTION, "width": [24, 32], "expand": [3], "stride": 2, "se": True, "value_ratio": [4]},
        )
    ],
    "attention": {
        "head_dim": 8,
        "activation": "swish",
        "qkv_bias": True,
        "talking_heads": True,
        "mlps": 2,
        "scaling": {},
    },
    "head": {"width": [24, 32], "pool_expand": 6, "activation": "swish"},
}
_RATIOS = {"expand": [6], "se": True, "value_ratio": [2, 3], "mlp_ratio": [2, 3]}
ELASTICVIT: dict[str, Any] = _COMMON | {
    "name": "small elasticvit",
    "divisor": 1,
    "stem": {"width": [8, 16]},
    "stages": [
        stage | {"activation": "hard_swish"}
        for stage in (
            _CONV | {"width": [8, 16], "same_width": True, "kernel": [3, 5]},
            _CONV | {"width": [16, 24], "kernel": [3, 5], "expand": [2, 3], "stride": 2, "se": True},
            _ATTENTION | _RATIOS | {"width": [16, 32, 48], "stride": 2},
            _ATTENTION | _RATIOS | {"width": [32, 48]},
        )
    ],
    "attention": {"head_dim": 16, "mixed_channels": True},
    "head": {"width": [32], "pool_expand": 6, "mix_bias": True},
}
NASVIT_MAXIMUM = ((8, 16, 16, 24, 32, 32), (2, 2, 4, 3), (1, 3, 3, 3))
"""Largest widths of stem, stages and head, depths, and expand ratios of the stages."""
ELASTICVIT_MAXIMUM = ((16, 24, 48, 48), (2, 2, 2, 2), (1, 3, 6, 6))
WINDOW = 7
"""Side of the largest map for which NASViT's tables have distances."""


class _Random:
    """Collects random tensors."""

    def __init__(self, seed: int) -> None:
        self.state: State = {}
        self.generator = torch.Generator().manual_seed(seed)

    def matrix(self, name: str, *shape: int, bias: bool = False) -> None:
        scale = (2 / torch.Size(shape[1:]).numel()) ** 0.5
        self.state[f"{name}.weight"] = torch.randn(shape, generator=self.generator) * scale
        if bias:
            self.vector(f"{name}.bias", shape[0])

    def vector(self, name: str, *shape: int, low: float = -0.3, high: float = 0.3) -> None:
        self.state[name] = torch.rand(shape, generator=self.generator) * (high - low) + low

    def norm(self, name: str, n: int, *, batch: bool = True) -> None:
        self.vector(f"{name}.weight", n, low=0.7, high=1.3)
        self.vector(f"{name}.bias", n)
        if batch:
            self.vector(f"{name}.running_mean", n)
            self.vector(f"{name}.running_var", n, low=0.7, high=1.3)
            self.state[f"{name}.num_batches_tracked"] = torch.tensor(3)


def _divisible(channels: float) -> int:
    """The multiple of 8 nearest to `channels`, or the next larger one if that is below 90 % of `channels`."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels else nearest


def nasvit_state(seed: int = 0) -> State:
    """A supernet of NASViT with the sizes of `NASVIT`."""
    w = _Random(seed)
    (stem, *widths, last), depths, expands = NASVIT_MAXIMUM
    w.matrix("first_conv.conv.conv", stem, 3, 3, 3)
    w.norm("first_conv.bn.bn", stem)
    c, i = stem, 0
    for s, (width, depth, expand) in enumerate(zip(widths, depths, expands, strict=True)):
        for b in range(depth):
            if s >= 2 and b > 0:
                _nasvit_attention(w, f"blocks.{i}", width)
            else:
                _nasvit_mbconv(w, f"blocks.{i}", c, width, expand, kernel=5 if s == 0 else 3, se=s in (1, 3))
            c, i = width, i + 1
    w.matrix("last_conv.final_expand_layer.conv.conv", 6 * c, c, 1, 1)
    w.norm("last_conv.final_expand_layer.bn.bn", 6 * c)
    w.matrix("last_conv.feature_mix_layer.conv.conv", last, 6 * c, 1, 1)
    w.matrix("classifier.linear.linear", CLASSES, last, bias=True)
    return w.state


def _nasvit_mbconv(w: _Random, name: str, c: int, width: int, expand: int, *, kernel: int, se: bool) -> None:
    mid, block = _divisible(c * expand), f"{name}.mobile_inverted_conv"
    if expand > 1:
        w.matrix(f"{block}.inverted_bottleneck.conv.conv", mid, c, 1, 1)
        w.norm(f"{block}.inverted_bottleneck.bn.bn", mid)
    w.matrix(f"{block}.depth_conv.conv.conv", mid, 1, kernel, kernel)
    w.norm(f"{block}.depth_conv.bn.bn", mid)
    if se:
        w.matrix(f"{block}.depth_conv.se.fc.reduce", _divisible(mid // 4), mid, 1, 1, bias=True)
        w.matrix(f"{block}.depth_conv.se.fc.expand", mid, _divisible(mid // 4), 1, 1, bias=True)
    w.matrix(f"{block}.point_linear.conv.conv", width, mid, 1, 1)
    w.norm(f"{block}.point_linear.bn.bn", width)
    w.matrix(f"{name}.shortcut.conv.conv", width, c, 1, 1)
    w.state[f"{block}.rescale"] = torch.ones(width)


def _nasvit_attention(w: _Random, name: str, width: int) -> None:
    heads = width // 8
    for part, channels in (("q", width), ("k", width), ("v", 4 * width)):
        w.matrix(f"{name}.attn.{part}.linear", channels, width, bias=True)
    w.matrix(f"{name}.attn.vconv", 4 * width, 1, 3, 3)
    w.matrix(f"{name}.attn.proj.linear", width, 4 * width, bias=True)
    for part in ("proj_l", "proj_w"):
        w.matrix(f"{name}.attn.{part}.linear", heads, heads, bias=True)
    w.vector(f"{name}.attn.relative_position_bias_table", (2 * WINDOW - 1) ** 2, heads)
    w.state[f"{name}.attn.relative_position_index"] = torch.zeros(WINDOW**2, WINDOW**2, dtype=torch.long)
    for part in ("norm1", "norm2", "norm3"):
        w.norm(f"{name}.{part}", width, batch=False)
    for mlp in ("mlp1", "mlp2"):
        for layer in ("linear1", "linear2"):
            w.matrix(f"{name}.{mlp}.{layer}.linear", width, width, bias=True)
    for part in ("rescale_attn", "rescale_mlp"):
        w.vector(f"{name}.{part}", 10, 8, width, low=-3, high=3)


def _batch_norm(state: State, name: str, x: Tensor) -> Tensor:
    mean, var, weight, bias = (
        state[f"{name}.{part}"][: x.shape[1]] for part in ("running_mean", "running_var", "weight", "bias")
    )
    return F.batch_norm(x, mean, var, weight, bias, eps=1e-5)


def _layer_norm(state: State, name: str, x: Tensor) -> Tensor:
    """Moments over tokens and channels; weights by channel. `x` has the shape (n, tokens, channels)."""
    mean, var = x.mean((1, 2), keepdim=True), x.var((1, 2), correction=0, keepdim=True)
    weight, bias = (state[f"{name}.{part}"][: x.shape[2]] for part in ("weight", "bias"))
    return (x - mean) / (var + 1e-5).sqrt() * weight + bias


def _linear(state: State, name: str, x: Tensor, width: int) -> Tensor:
    weight = state[f"{name}.weight"].flatten(1)[:width, : x.shape[-1]]
    return x @ weight.T + state[f"{name}.bias"][:width]


def _pointwise(state: State, name: str, x: Tensor, width: int) -> Tensor:
    bias = state[f"{name}.bias"][:width] if f"{name}.bias" in state else None
    return F.conv2d(x, state[f"{name}.weight"][:width, : x.shape[1]], bias)


def _depthwise(state: State, name: str, x: Tensor, kernel: int, stride: int = 1) -> Tensor:
    weight = state[f"{name}.weight"][: x.shape[1]]
    margin = (weight.shape[-1] - kernel) // 2
    weight = weight[:, :, margin : margin + kernel, margin : margin + kernel]
    return F.conv2d(x, weight, stride=stride, padding=kernel // 2, groups=x.shape[1])


def _squeeze_excite(state: State, reduce: str, expand: str, x: Tensor, hidden: int) -> Tensor:
    pooled = F.relu(_pointwise(state, reduce, x.mean((2, 3), keepdim=True), hidden))
    return x * (F.relu6(_pointwise(state, expand, pooled, x.shape[1]) + 3) / 6)


def _shortcut(state: State, name: str, x: Tensor, width: int, stride: int) -> Tensor:
    if stride > 1:  # the mean of an odd map has one row and column of zeros
        x = F.avg_pool2d(x, 2, padding=x.shape[-1] % 2)
    return x if x.shape[1] == width else _pointwise(state, name, x, width)


def _bias_of_pairs(table: Tensor, side: int) -> Tensor:
    """The biases of all pairs of tokens of a map (heads, tokens, tokens), from the distance query - key."""
    largest = (int(len(table) ** 0.5) + 1) // 2
    result = torch.empty(side**2, side**2, table.shape[1], dtype=table.dtype)
    for q in range(side**2):
        for k in range(side**2):
            rows, columns = q // side - k // side, q % side - k % side
            result[q, k] = table[(rows + largest - 1) * (2 * largest - 1) + columns + largest - 1]
    return result.permute(2, 0, 1)


def _to_map(x: Tensor) -> Tensor:
    side = int(x.shape[1] ** 0.5)
    return x.transpose(1, 2).reshape(len(x), -1, side, side)


def _to_tokens(x: Tensor) -> Tensor:
    return x.flatten(2).transpose(1, 2)


def _resized(x: Tensor, size: int) -> Tensor:
    return x if x.shape[-1] == size else F.interpolate(x, size, mode="bicubic")


def nasvit_forward(state: State, arch: Mapping[str, Any], x: Tensor) -> Tensor:
    """Logits of a subnet of NASViT with its running statistics."""
    stem, *widths, last = arch["width"]
    x = F.conv2d(_resized(x, arch["resolution"]), state["first_conv.conv.conv.weight"][:stem], None, 2, 1)
    x = F.silu(_batch_norm(state, "first_conv.bn.bn", x))
    start = 0
    for s, width in enumerate(widths):
        depth, kernel, expand = (arch[key][s] for key in ("depth", "kernel_size", "expand_ratio"))
        for b in range(depth):
            name = f"blocks.{start + b}"
            if s >= 2 and b > 0:
                x = _nasvit_transformer(state, name, x, depth)
            else:
                stride = 2 if s > 0 and b == 0 else 1
                x = _nasvit_inverted(state, name, x, width, kernel, expand, stride, se=s in (1, 3))
        start += NASVIT_MAXIMUM[1][s]
    name = "last_conv.final_expand_layer"
    x = F.silu(_batch_norm(state, f"{name}.bn.bn", _pointwise(state, f"{name}.conv.conv", x, 6 * widths[-1])))
    x = F.silu(_pointwise(state, "last_conv.feature_mix_layer.conv.conv", x.mean((2, 3), True), last))
    return _linear(state, "classifier.linear.linear", x.flatten(1), CLASSES)


def _nasvit_inverted(
    state: State, name: str, x: Tensor, width: int, kernel: int, expand: int, stride: int, *, se: bool
) -> Tensor:
    entry, block = x, f"{name}.mobile_inverted_conv"
    if expand > 1:
        mid = _divisible(x.shape[1] * expand)
        x = _pointwise(state, f"{block}.inverted_bottleneck.conv.conv", x, mid)
        x = F.silu(_batch_norm(state, f"{block}.inverted_bottleneck.bn.bn", x))
    x = _depthwise(state, f"{block}.depth_conv.conv.conv", x, kernel, stride)
    x = F.silu(_batch_norm(state, f"{block}.depth_conv.bn.bn", x))
    if se:
        fc = f"{block}.depth_conv.se.fc"
        x = _squeeze_excite(state, f"{fc}.reduce", f"{fc}.expand", x, _divisible(x.shape[1] // 4))
    x = _batch_norm(
        state, f"{block}.point_linear.bn.bn", _pointwise(state, f"{block}.point_linear.conv.conv", x, width)
    )
    return x + _shortcut(state, f"{name}.shortcut.conv.conv", entry, width, stride)


def _nasvit_transformer(state: State, name: str, x: Tensor, depth: int) -> Tensor:
    x = _to_tokens(x)
    tokens, width = x.shape[1:]
    factors = {
        part: state[f"{name}.rescale_{part}"][depth, tokens % 8, :width] * 8 / width
        for part in ("attn", "mlp")
    }
    x = x + factors["attn"] * _nasvit_attend(state, f"{name}.attn", _layer_norm(state, f"{name}.norm1", x))
    for mlp, norm in (("mlp2", "norm3"), ("mlp1", "norm2")):
        hidden = F.silu(
            _linear(state, f"{name}.{mlp}.linear1.linear", _layer_norm(state, f"{name}.{norm}", x), width)
        )
        x = x + factors["mlp"] * _linear(state, f"{name}.{mlp}.linear2.linear", hidden, width)
    return _to_map(x)


def _nasvit_attend(state: State, name: str, x: Tensor) -> Tensor:
    n, tokens, width = x.shape
    heads = width // 8
    query, key = (_linear(state, f"{name}.{part}.linear", x, width) for part in ("q", "k"))
    value = _linear(state, f"{name}.v.linear", x, 4 * width)
    value = _to_tokens(_depthwise(state, f"{name}.vconv", _to_map(value), 3))
    query, key, value = (part.reshape(n, tokens, heads, -1).transpose(1, 2) for part in (query, key, value))
    logits = query @ key.transpose(2, 3) / 8**0.5
    table = state[f"{name}.relative_position_bias_table"][:, :heads]
    logits = logits + _bias_of_pairs(table, int(tokens**0.5))
    logits = _linear(state, f"{name}.proj_l.linear", logits.permute(0, 2, 3, 1), heads).permute(0, 3, 1, 2)
    shares = logits.softmax(3)
    shares = _linear(state, f"{name}.proj_w.linear", shares.permute(0, 2, 3, 1), heads).permute(0, 3, 1, 2)
    mixed = F.silu((shares @ value).transpose(1, 2).reshape(n, tokens, -1))
    return _linear(state, f"{name}.proj.linear", mixed, width)


def elasticvit_state(seed: int = 0) -> State:
    """A supernet of ElasticViT with the sizes of `ELASTICVIT`."""
    w = _Random(seed)
    widths, depths, ratios = ELASTICVIT_MAXIMUM
    w.matrix("first_conv", widths[0], 3, 3, 3)
    w.norm("first_conv_bn", widths[0])
    for s, (width, depth, ratio) in enumerate(zip(widths, depths, ratios, strict=True)):
        layers = f"feature_exactor.{s - 1}.layers" if s else "conv_stem.layers"
        for b in range(depth):
            if s < 2:
                _elasticvit_mobile(w, f"{layers}.{b}.0", width, ratio, kernel=5, se=s == 1)
                continue
            if b == 0:
                _elasticvit_mobile(w, f"{layers}.0.reduction", width, ratio, kernel=3, se=True)
            side = 6  # of the maps of both stages at the largest resolution
            name = f"{layers}.{2 * b}"
            w.norm(f"{name}.norm1", width, batch=False)
            w.matrix(f"{name}.qkv", (2 + 3) * width, width)
            w.matrix(f"{name}.dw_v_conv", 3 * width, 1, 3, 3)
            w.matrix(f"{name}.proj", width, 3 * width, bias=True)
            w.vector(f"{name}.attention_bias", (2 * side - 1) ** 2, width // 16)
            w.state[f"{name}.relative_position_index"] = torch.zeros(side**2, side**2, dtype=torch.long)
            name = f"{layers}.{2 * b + 1}"
            w.norm(f"{name}.norm1", width, batch=False)
            w.matrix(f"{name}.fc1", 3 * width, width, bias=True)
            w.matrix(f"{name}.fc2", width, 3 * width, bias=True)
    c = widths[-1]
    w.matrix("pre_head_0", 6 * c, c, bias=True)
    w.norm("pre_head_norm_0", 6 * c)
    w.matrix("pre_head_1", 32, 6 * c, bias=True)
    w.matrix("classifer", CLASSES, 32, bias=True)
    return w.state


def _elasticvit_mobile(w: _Random, name: str, width: int, ratio: int, *, kernel: int, se: bool) -> None:
    mid = width * ratio
    if ratio > 1:
        w.matrix(f"{name}.pw_conv", mid, width, 1, 1)
        w.norm(f"{name}.pw_bn", mid)
    w.matrix(f"{name}.dw_conv", mid, 1, kernel, kernel)
    w.norm(f"{name}.dw_bn", mid)
    if se:
        w.matrix(f"{name}.se_conv1", mid // 4, mid, 1, 1, bias=True)
        w.matrix(f"{name}.se_conv2", mid, mid // 4, 1, 1, bias=True)
    w.matrix(f"{name}.pwl_conv", width, mid, 1, 1)
    w.norm(f"{name}.pwl_bn", width)
    w.matrix(f"{name}.shortcut_conv", width, width, 1, 1)


def elasticvit_forward(state: State, arch: Sequence[Any], x: Tensor) -> Tensor:
    """Logits of a subnet of ElasticViT with its running statistics."""
    resolution, widths, depths, expands, kernels, mlps, _, _, _, values = arch
    convs = iter(zip(expands, kernels, strict=True))
    blocks = iter(zip(mlps, values, strict=True))
    x = F.conv2d(_resized(x, resolution), state["first_conv.weight"][: widths[0]], None, 2, 1)
    x = F.hardswish(_batch_norm(state, "first_conv_bn", x))
    for s, (width, depth) in enumerate(zip(widths, depths, strict=True)):
        layers = f"feature_exactor.{s - 1}.layers" if s else "conv_stem.layers"
        for b in range(depth):
            stride = 2 if s in (1, 2) and b == 0 else 1
            if s < 2:
                expand, kernel = next(convs)
                x = _elasticvit_block(state, f"{layers}.{b}.0", x, width, kernel, expand, stride, se=s == 1)
                continue
            if b == 0:
                x = _elasticvit_block(state, f"{layers}.0.reduction", x, width, 3, 6, stride, se=True)
            mlp, value = next(blocks)
            tokens = _to_tokens(x)
            tokens = tokens + _elasticvit_attend(state, f"{layers}.{2 * b}", tokens, value)
            name = f"{layers}.{2 * b + 1}"
            hidden = _linear(
                state, f"{name}.fc1", _layer_norm(state, f"{name}.norm1", tokens), int(mlp * width)
            )
            x = _to_map(tokens + _linear(state, f"{name}.fc2", F.hardswish(hidden), width))
    tokens = _linear(state, "pre_head_0", _to_tokens(x), 6 * widths[-1])
    tokens = F.hardswish(_batch_norm(state, "pre_head_norm_0", tokens.transpose(1, 2))).mean(2)
    return _linear(state, "classifer", F.hardswish(_linear(state, "pre_head_1", tokens, 32)), CLASSES)


def _elasticvit_block(
    state: State, name: str, x: Tensor, width: int, kernel: int, expand: int, stride: int, *, se: bool
) -> Tensor:
    entry = x
    if expand > 1:
        x = _pointwise(state, f"{name}.pw_conv", x, x.shape[1] * expand)
        x = F.hardswish(_batch_norm(state, f"{name}.pw_bn", x))
    x = F.hardswish(
        _batch_norm(state, f"{name}.dw_bn", _depthwise(state, f"{name}.dw_conv", x, kernel, stride))
    )
    if se:
        x = _squeeze_excite(state, f"{name}.se_conv1", f"{name}.se_conv2", x, x.shape[1] // 4)
    x = _batch_norm(state, f"{name}.pwl_bn", _pointwise(state, f"{name}.pwl_conv", x, width))
    return x + _shortcut(state, f"{name}.shortcut_conv", entry, width, stride)


def _elasticvit_attend(state: State, name: str, x: Tensor, ratio: int) -> Tensor:
    x = _layer_norm(state, f"{name}.norm1", x)
    n, tokens, width = x.shape
    weight, heads = state[f"{name}.qkv.weight"], width // 16
    largest = weight.shape[1]
    regions = [weight[:width], weight[largest : largest + width], weight[2 * largest :][: ratio * width]]
    by_head = (x @ torch.cat(regions)[:, :width].T).reshape(n, tokens, heads, -1)
    query, key, value = by_head.split([16, 16, 16 * ratio], 3)
    value = _to_tokens(_depthwise(state, f"{name}.dw_v_conv", _to_map(value.flatten(2)), 3))
    value = value.reshape(n, tokens, heads, -1).transpose(1, 2)
    logits = query.transpose(1, 2) @ key.permute(0, 2, 3, 1) / 4
    logits = logits + _bias_of_pairs(state[f"{name}.attention_bias"][:, :heads], int(tokens**0.5))
    mixed = (logits.softmax(3) @ value).transpose(1, 2).flatten(2)
    return _linear(state, f"{name}.proj", F.hardswish(mixed), width)
