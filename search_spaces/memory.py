"""Peak memory of activations, by liveness analysis of the nodes."""

from __future__ import annotations

from search_spaces.graph import Block

BYTES_PER_NUMBER = 4
"""Activations are float32."""


def peak_memory_bytes(block: Block) -> int:
    """Largest number of bytes of activations that are alive at the same time, for one image.

    Nodes run in their order. While a node runs, its output, its inputs and all outputs that later nodes read
    are alive. Inputs of the block are freed after their last use, like other tensors. Norms and activations
    work in place. Attention weights are alive while their node runs. Parameters and other temporary buffers
    of kernels are not counted.

    If only one tensor passes between blocks, the peak of a network is the largest peak of its blocks.

    Args:
        block: a block, or a whole network (`search_spaces.graph.chain`).
    """
    # for each node, the tensor whose memory it uses
    memory = {-1 - i: -1 - i for i in range(len(block.inputs))}
    numbers = {-1 - i: spec.numel for i, spec in enumerate(block.inputs)}
    for i, node in enumerate(block.nodes):
        memory[i] = memory[node.inputs[0]] if node.op.in_place else i
        numbers.setdefault(memory[i], node.output.numel)
    last_use = {memory[source]: i for i, node in enumerate(block.nodes) for source in node.inputs}
    last_use |= {memory[output]: len(block.nodes) for output in block.outputs}
    alive, peak = {-1 - i for i in range(len(block.inputs))}, 0
    for i in range(len(block.nodes)):
        alive.add(memory[i])
        workspace = block.nodes[i].op.workspace(*block.nodes[i].specs)
        peak = max(peak, sum(numbers[tensor] for tensor in alive) + workspace)
        alive = {tensor for tensor in alive if last_use.get(tensor, i) > i}
    return BYTES_PER_NUMBER * peak
