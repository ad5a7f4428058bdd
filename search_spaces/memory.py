"""Peak memory of activations, by liveness over the nodes."""

from __future__ import annotations

from search_spaces.graph import Block

BYTES_PER_NUMBER = 4
"""Activations are float32."""


def peak_memory_bytes(block: Block) -> int:
    """The most bytes of activations that are alive at once, for one image.

    Nodes run in their order. While one runs, its output, its inputs and every earlier output that a later
    node still reads are alive; the inputs of the whole are freed after their last use like any other tensor.
    Norms and activations change their input in place. Weights and what a kernel needs do not count.

    Where one tensor passes between blocks, the peak of a network is the largest of its blocks' peaks.

    Args:
        block: a block, or a whole network (`search_spaces.graph.chain`).
    """
    memory = {-1 - i: -1 - i for i in range(len(block.inputs))}  # by node, the tensor whose memory it takes
    numbers = {-1 - i: spec.numel for i, spec in enumerate(block.inputs)}
    for i, node in enumerate(block.nodes):
        memory[i] = memory[node.inputs[0]] if node.op.in_place else i
        numbers.setdefault(memory[i], node.output.numel)
    last_use = {memory[source]: i for i, node in enumerate(block.nodes) for source in node.inputs}
    last_use |= {memory[output]: len(block.nodes) for output in block.outputs}
    alive, peak = {-1 - i for i in range(len(block.inputs))}, 0
    for i in range(len(block.nodes)):
        alive.add(memory[i])
        peak = max(peak, sum(numbers[tensor] for tensor in alive))
        alive = {tensor for tensor in alive if last_use.get(tensor, i) > i}
    return BYTES_PER_NUMBER * peak
