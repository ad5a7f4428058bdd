"""Multiply-accumulates as torch counts them."""

from collections.abc import Callable, Iterable

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from search_spaces import Node
from search_spaces import operators as ops


def torch_macs(compute: Callable[[], object]) -> float:
    """Multiply-accumulates of the operations in `compute`."""
    # torch counts the operations of its plain implementation of attention only
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        compute()
    return float(counter.get_total_flops() / 2)


def macs_with_relative_positions(nodes: Iterable[Node]) -> int:
    """MACs for one image, with the products of queries and attention weights with tables of positions."""
    return sum(node.macs + _macs_of_relative_positions(node) for node in nodes)


def _macs_of_relative_positions(node: Node) -> int:
    """Products of the queries and of sums of attention weights with the four tables; MACs exclude them."""
    if not isinstance(node.op, ops.Attention) or not isinstance(node.op.relative, ops.RelativeTables):
        return 0
    return 4 * node.output.numel * (2 * node.op.relative.distance + 2)
