"""Rules of attention: modules, functions, and two matrix products with a softmax between them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from nas.importing.torch_model.lowering import Call, Deferred, Index, View, Weight, kind_of
from nas.importing.torch_model.tracer import BATCH
from nas.importing.torch_model.views import operators_of
from search_spaces.operators import RelativeBias
from search_spaces.operators.distances import distances


@dataclass(frozen=True)
class Logits(Deferred):
    """Products of queries and keys."""

    query: View
    key: View
    scale: float = 1.0
    is_softmax: bool = False


@dataclass(frozen=True)
class Scaled(Deferred):
    """Queries or keys times a number."""

    view: View
    scale: float


def multi_head_attention(call: Call) -> tuple[Index, None]:
    """`nn.MultiheadAttention` of tokens to one another."""
    module, source = call.module, call.tensor(0, "query")
    assert isinstance(module, nn.MultiheadAttention)
    others = [call.index(call.argument(i, name)) for i, name in ((1, "key"), (2, "value"))]
    masks = [call.argument(i, name) for i, name in ((3, "key_padding_mask"), (5, "attn_mask"))]
    if others != [source, source] or any(mask is not None for mask in masks):
        raise ValueError(
            "queries, keys and values must come from the same tokens, and masks are not supported"
        )
    special = (module.bias_k, module.bias_v, module.q_proj_weight)
    if not module.batch_first or module.add_zero_attn or any(weight is not None for weight in special):
        raise ValueError(
            "attention must have batch_first=True, and no add_bias_kv, add_zero_attn, kdim or vdim"
        )
    channels, path = module.embed_dim, str(call.node.target)
    weights = {
        name: Weight(tensor.detach(), f"{path}.in_proj_{name}")
        for name, tensor in (("weight", module.in_proj_weight), ("bias", module.in_proj_bias))
        if tensor is not None
    }
    bias = True if "bias" in weights else None
    qkv = {"channels": 3 * channels, "bias": bias, "parts": 3}
    projected = call.add("linear", source, path=f"{path}.in_proj", weights=weights, **qkv)
    mixed = call.add("attention", projected, path=f"{path}.attention", heads=module.num_heads)
    bias = True if module.out_proj.bias is not None else None
    return call.add("linear", mixed, path=f"{path}.out_proj", channels=channels, bias=bias), None


def dot_product_attention(call: Call) -> View:
    """`F.scaled_dot_product_attention`."""
    query, key, value = (call.argument(i, name) for i, name in enumerate(("query", "key", "value")))
    if call.argument(3, "attn_mask") is not None or call.argument(5, "is_causal", False):
        raise ValueError("attention must have no mask")
    if not all(isinstance(part, View) for part in (query, key, value)):
        raise ValueError("queries, keys and values of attention must be parts of outputs of linear layers")
    return _attention(call, query, key, value, call.kwargs.get("scale") or query.indices.shape[-1] ** -0.5)


def product(call: Call) -> Deferred | View:
    """A matrix product of queries and keys, or of attention weights and values."""
    a, b = call.argument(0, "input"), call.argument(1, "other", call.kwargs.get("mat2"))
    if isinstance(a, Logits) and a.is_softmax and isinstance(b, View):
        return _attention(call, a.query, a.key, b, a.scale)
    scale = math.prod(part.scale for part in (a, b) if isinstance(part, Scaled))
    query, key = (part.view if isinstance(part, Scaled) else part for part in (a, b))
    if not isinstance(query, View) or not isinstance(key, View) or key.indices.ndim != 4:
        raise ValueError(
            f"products of two tensors are supported only in attention, got {kind_of(a)} and {kind_of(b)}"
        )
    return Logits("products of queries and keys", query, View(key.source, key.indices.transpose(2, 3)), scale)


def softmax(call: Call) -> Logits:
    """The softmax of attention."""
    logits = call.argument(0, "input")
    if not isinstance(logits, Logits):
        raise ValueError(
            "a softmax is supported only in attention; a model must return logits, so leave it out at the end"
        )
    dim = call.module.dim if call.module else call.argument(1, "dim")
    if dim not in (-1, 3):
        raise ValueError(f"the softmax of attention must be over the keys, got the dimension {dim}")
    return replace(logits, is_softmax=True)


def times(call: Call, value: Any, factor: Any) -> Logits | Scaled | None:
    """Queries, keys or their products times a number; None: the value is none of these."""
    if not isinstance(factor, int | float) or isinstance(factor, Index):
        return None
    if isinstance(value, Logits) and not value.is_softmax:
        return replace(value, scale=value.scale * factor)
    if isinstance(value, View) and value.indices.ndim == 4 and not next(operators_of(call, value), None):
        return Scaled("queries times a number", value, float(factor))
    return None


def _attention(call: Call, query: View, key: View, value: View, scale: float) -> View:
    parts = (query, key, value)
    if query.indices.ndim != 4 or len(query.indices) != BATCH:
        raise ValueError(
            f"queries must have the dimensions (n, heads, tokens, channels), got {query.indices.shape}"
        )
    _, heads, tokens, head_dim = query.indices.shape
    if not math.isclose(scale, head_dim**-0.5, rel_tol=1e-6):
        raise ValueError(
            f"the products of attention must be divided by √{head_dim}, got the factor {scale:g}"
        )
    specs = [call.spec(part.source) for part in parts]
    together = len({part.source for part in parts}) == 1
    if any(spec.layout != "tokens" or spec.size != (tokens,) for spec in specs):
        raise ValueError(f"all tokens must attend to all tokens, got {specs[0]}")
    for i, part in enumerate(parts):
        full = call.lowering.indices(part.source)
        expected = _of_part(full, i, heads) if together else _by_head(full, heads)
        if not torch.equal(part.indices, expected):
            raise ValueError("queries, keys and values must have their channels head by head, in this order")
    if together:
        call.lowering.change(query.source, parts=3)
    sources = (query.source,) if together else tuple(part.source for part in parts)
    mixed = call.add("attention", *sources, path=call.path("attention"), heads=heads)
    return View(mixed, _by_head(call.lowering.indices(mixed), heads))


def _of_part(full: Tensor, part: int, heads: int) -> Tensor:
    """Queries, keys or values from one fused tensor, shape (n, heads, tokens, channels)."""
    n, tokens, channels = full.shape
    if channels % (3 * heads):
        return full
    return full.view(n, tokens, 3, heads, -1).permute(2, 0, 3, 1, 4)[part]


def _by_head(full: Tensor, heads: int) -> Tensor:
    n, tokens, channels = full.shape
    return full.view(n, tokens, heads, -1).transpose(1, 2) if channels % heads == 0 else full


def window_attention(call: Call) -> Index:
    """The function for window attention in torchvision's Swin transformers."""
    names = (
        *("input", "qkv_weight", "proj_weight", "relative_position_bias", "window_size", "num_heads"),
        *("shift_size", "attention_dropout", "dropout", "qkv_bias", "proj_bias", "logit_scale"),
    )
    values = {name: call.argument(i, name) for i, name in enumerate(names)}
    source, heads = call.tensor(), values["num_heads"]
    height, width = values["window_size"]
    spec = call.spec(source)
    if any(side % size for side, size in zip(spec.size, (height, width), strict=True)):
        raise ValueError(f"the grid must have whole windows of {(height, width)} tokens, got {spec.size}")
    weights = {name: values[name] for name in names if isinstance(values[name], Weight)}
    if not weights.keys() >= {"qkv_weight", "proj_weight", "relative_position_bias"}:
        raise ValueError("the weights of attention must be parameters")
    own = {"bias": Weight(relative_table(weights["relative_position_bias"].tensor, (height, width)))}
    qkv_weights = {"weight": weights["qkv_weight"]}
    if "qkv_bias" in weights:
        qkv_weights["bias"] = weights["qkv_bias"]
    if "logit_scale" in weights:
        # as in Swin V2: keys have no bias
        own["scale"] = Weight(weights["logit_scale"].tensor.clamp(max=math.log(100)).exp().flatten())
        if "bias" in qkv_weights:
            bias = qkv_weights["bias"].tensor.clone()
            bias[spec.channels : 2 * spec.channels] = 0
            qkv_weights["bias"] = replace(qkv_weights["bias"], tensor=bias)
    projected = call.add(
        "linear",
        source,
        path=weights["qkv_weight"].module,
        weights=qkv_weights,
        channels=3 * spec.channels,
        parts=3,
        bias=True if "bias" in qkv_weights else None,
    )
    rows, columns = values["shift_size"]
    mixed = call.add(
        "window_attention",
        projected,
        path=f"{weights['qkv_weight'].module.rpartition('.')[0]}.attention".lstrip("."),
        weights=own,
        heads=heads,
        window=(height, width),
        shift=(rows, columns) if rows or columns else None,
        normalized=True if "scale" in own else None,
    )
    path, bias = weights["proj_weight"].module, True if "proj_bias" in weights else None
    return call.add("linear", mixed, path=path, channels=spec.channels, bias=bias)


def relative_table(bias: Tensor, window: tuple[int, int]) -> Tensor:
    """Convert biases for all pairs of tokens to biases for the distances of tokens.

    Args:
        bias: shape (..., heads, tokens, tokens).
        window: height and width of a window in tokens.

    Returns:
        shape (2 height - 1, 2 width - 1, heads).

    Raises:
        ValueError: pairs with equal distances have different numbers.
    """
    pairs = bias.reshape(-1, *bias.shape[-2:]).permute(1, 2, 0)
    rows, columns = (torch.from_numpy(indices.T) for indices in distances(RelativeBias(window)))
    if pairs.shape[:2] != rows.shape:
        raise ValueError(f"relative positions must be for {len(rows)} tokens, got {pairs.shape[0]}")
    table = pairs.new_zeros(2 * window[0] - 1, 2 * window[1] - 1, pairs.shape[2])
    table[rows, columns] = pairs
    if not torch.equal(table[rows, columns], pairs):
        raise ValueError("relative positions must depend on the distance of tokens only")
    return table
