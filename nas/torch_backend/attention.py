"""Attention as torch functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from search_spaces import operators as ops
from search_spaces.operators.distances import distances


def attention(op: ops.Attention, inputs: Sequence[Tensor], weights: Mapping[str, Tensor]) -> Tensor:
    """Tokens of queries, keys and values (n, tokens, 3 · channels) -> (n, tokens, channels)."""
    qkv = inputs[0].unflatten(2, (3, op.heads, -1))
    query, key, value = qkv.permute(2, 0, 3, 1, 4)  # (n, heads, tokens, head_dim) each
    match op.relative:
        case ops.RelativeTables():
            out = _with_tables(op.relative, query, key, value, weights)
        case ops.RelativeBias():
            rows, columns = map(torch.from_numpy, distances(op.relative))
            bias = weights["bias"][rows, columns].permute(2, 0, 1)  # (heads, tokens, tokens)
            out = F.scaled_dot_product_attention(query, key, value, bias)
        case None:
            out = F.scaled_dot_product_attention(query, key, value)
    return out.transpose(1, 2).flatten(2)


def _with_tables(
    relative: ops.RelativeTables, query: Tensor, key: Tensor, value: Tensor, weights: Mapping[str, Tensor]
) -> Tensor:
    pairs = distances(relative)
    logits = query @ key.transpose(2, 3)
    for axis, indices in pairs._asdict().items():
        # products with all distances, of which each pair of tokens takes its own
        products = query @ weights[f"key_{axis}"].T
        logits = logits + products.gather(3, _expanded(indices, logits))
    shares = (logits * query.shape[3] ** -0.5).softmax(3)
    out: Tensor = shares @ value
    for axis, indices in pairs._asdict().items():
        table = weights[f"value_{axis}"]
        totals = shares.new_zeros(*shares.shape[:3], len(table))
        out = out + totals.scatter_add(3, _expanded(indices, shares), shares) @ table
    return out


def _expanded(indices: NDArray[np.int64], like: Tensor) -> Tensor:
    return torch.from_numpy(indices).to(like.device).expand_as(like)
