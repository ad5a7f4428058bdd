"""Peak memory of activations, by liveness analysis of the nodes."""

from __future__ import annotations

from collections.abc import Mapping

from search_spaces.graph import Block
from search_spaces.tensors import FP16, FP32, INT8, TensorSpec

BYTES_PER_NUMBER: Mapping[str, int] = {FP32: 4, FP16: 2, INT8: 1}
"""Bytes of one number of a tensor, by its precision."""


def bytes_per_number(spec: TensorSpec) -> int:
    """Bytes of one number of a tensor; tokens are in floating point in INT8 networks too."""
    is_float = spec.layout == "tokens" and spec.precision == INT8
    return BYTES_PER_NUMBER[FP32 if is_float else spec.precision]


def peak_memory_bytes(block: Block) -> int:
    """Largest number of bytes of activations that are alive at the same time, for one image.

    Nodes run in their order. While a node runs, its output, its inputs and all outputs that later nodes read
    are alive. Inputs of the block are freed after their last use, like other tensors. Norms and activations
    work in place. Attention weights are alive while their node runs. Parameters and other temporary buffers
    of kernels are not counted. An activation that an INT8 network computes in floating point counts as INT8.

    If only one tensor passes between blocks, the peak of a network is the largest peak of its blocks.

    Args:
        block: a block, or a whole network (`search_spaces.graph.chain`).
    """
    # for each node, the tensor whose memory it uses
    memory = {-1 - i: -1 - i for i in range(len(block.inputs))}
    size = {-1 - i: _bytes(spec) for i, spec in enumerate(block.inputs)}
    for i, node in enumerate(block.nodes):
        memory[i] = memory[node.inputs[0]] if node.op.in_place else i
        size.setdefault(memory[i], _bytes(node.output))
    last_use = {memory[source]: i for i, node in enumerate(block.nodes) for source in node.inputs}
    last_use |= {memory[output]: len(block.nodes) for output in block.outputs}
    alive, peak = {-1 - i for i in range(len(block.inputs))}, 0
    for i in range(len(block.nodes)):
        alive.add(memory[i])
        node = block.nodes[i]
        workspace = node.op.workspace(*node.specs) * bytes_per_number(node.output)
        peak = max(peak, sum(size[tensor] for tensor in alive) + workspace)
        alive = {tensor for tensor in alive if last_use.get(tensor, i) > i}
    return peak


def _bytes(spec: TensorSpec) -> int:
    return spec.numel * bytes_per_number(spec)
