"""Attention as torch functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from search_spaces import operators as ops
from search_spaces.operators.attention import MIXINGS
from search_spaces.operators.distances import distances, window_mask
from search_spaces.tensors import TensorSpec


def attention(op: ops.Attention, inputs: Sequence[Tensor], weights: Mapping[str, Tensor]) -> Tensor:
    """Multi-head attention; the inputs are as for `Attention`, the output has shape (n, tokens, channels).

    Args:
        op: the operator.
        inputs: one tensor (n, tokens, 3 · channels) with queries, keys and values, or a tensor for each.
        weights: tables of relative positions and weights of talking heads by name, if `op` has them.
    """
    query, key, value = _by_head(op, inputs)
    if isinstance(op.relative, ops.RelativeTables):
        out = _with_tables(op, op.relative, query, key, value, weights)
    else:
        bias = _bias(op.relative, weights) if op.relative else None
        if op.talking_heads:
            logits = query @ key.transpose(2, 3) * query.shape[3] ** -0.5
            out = _shares(op, logits if bias is None else logits + bias, weights) @ value
        else:
            out = F.scaled_dot_product_attention(query, key, value, bias)
    return out.transpose(1, 2).flatten(2)


def _by_head(op: ops.Attention, inputs: Sequence[Tensor]) -> Sequence[Tensor]:
    """Queries, keys and values, each of shape (n, heads, tokens, channels of a head)."""
    if len(inputs) == 1:
        qkv: Tensor = inputs[0].unflatten(2, (3, op.heads, -1))
        return qkv.permute(2, 0, 3, 1, 4).unbind()
    return [x.unflatten(2, (op.heads, -1)).transpose(1, 2) for x in inputs]


def _bias(relative: ops.RelativeBias, weights: Mapping[str, Tensor]) -> Tensor:
    """The relative bias of each pair of tokens, shape (heads, tokens, tokens)."""
    rows, columns = map(torch.from_numpy, distances(relative))
    return weights["bias"][rows, columns].permute(2, 0, 1)


def _shares(op: ops.Attention, logits: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
    """Attention weights from logits, both of shape (n, heads, tokens, tokens)."""
    if not op.talking_heads:
        return logits.softmax(3)
    before, after = ((weights[f"{name}_weight"], weights[f"{name}_bias"]) for name in MIXINGS)
    return _mixed(_mixed(logits, *before).softmax(3), *after)


def _mixed(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Apply a linear layer over the heads of `x`, shape (n, heads, tokens, tokens)."""
    mixed: Tensor = weight.to(x.dtype) @ x.flatten(2) + bias[:, None].to(x.dtype)
    return mixed.view_as(x)


def window_attention(
    op: ops.WindowAttention, inputs: Sequence[Tensor], weights: Mapping[str, Tensor]
) -> Tensor:
    """Attention within windows: (n, rows, columns, 3 · channels) -> (n, rows, columns, channels)."""
    x = inputs[0]
    n, *grid, channels = x.shape
    (height, width), (rows, columns) = op.window, (grid[0] // op.window[0], grid[1] // op.window[1])
    down, right = op.shifts(TensorSpec("tokens", channels, tuple(grid)))
    if down or right:
        x = x.roll((-down, -right), (1, 2))
    parts = x.reshape(n, rows, height, columns, width, 3, op.heads, -1).permute(5, 0, 1, 3, 6, 2, 4, 7)
    # (n · windows, heads, tokens, head_dim) each
    query, key, value = parts.reshape(3, n * rows * columns, op.heads, height * width, -1)
    if op.normalized:
        products = F.normalize(query, dim=3) @ F.normalize(key, dim=3).transpose(2, 3)
        logits = products * weights["scale"][:, None, None]
    else:
        logits = (query * query.shape[3] ** -0.5) @ key.transpose(2, 3)
    distance_rows, distance_columns = map(torch.from_numpy, distances(ops.RelativeBias(op.window)))
    # the table is indexed by the distance from key to query, so the indices are transposed
    logits = logits + weights["bias"][distance_rows.T, distance_columns.T].permute(2, 0, 1)
    if down or right:
        mask = torch.from_numpy(window_mask((grid[0], grid[1]), op.window, (down, right))).to(logits)
        logits = (logits.unflatten(0, (n, rows * columns)) + mask).flatten(0, 1)
    out: Tensor = logits.softmax(3) @ value
    out = out.reshape(n, rows, columns, op.heads, height, width, -1).permute(0, 1, 4, 2, 5, 3, 6)
    out = out.reshape(n, *grid, channels // 3)
    return out.roll((down, right), (1, 2)) if down or right else out


def _with_tables(
    op: ops.Attention,
    relative: ops.RelativeTables,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    weights: Mapping[str, Tensor],
) -> Tensor:
    pairs = distances(relative)
    logits = query @ key.transpose(2, 3)
    for axis, indices in pairs._asdict().items():
        # products with the vectors of all distances; each pair of tokens takes the one of its distance
        products = query @ weights[f"key_{axis}"].T
        logits = logits + products.gather(3, _expanded(indices, logits))
    shares = _shares(op, logits * query.shape[3] ** -0.5, weights)
    out: Tensor = shares @ value
    for axis, indices in pairs._asdict().items():
        table = weights[f"value_{axis}"]
        totals = shares.new_zeros(*shares.shape[:3], len(table))
        out = out + totals.scatter_add(3, _expanded(indices, shares), shares) @ table
    return out


def _expanded(indices: NDArray[np.int64], like: Tensor) -> Tensor:
    return torch.from_numpy(indices).to(like.device).expand_as(like)
