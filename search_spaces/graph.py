"""The graph of a network: blocks of operators in topological order.

MACs, parameters, activation sizes, latency keys, torch modules and ONNX graphs are all derived from it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

from search_spaces.operators import BatchNorm, Conv2d, Linear, Operator, Parameter
from search_spaces.operators.joining import Add
from search_spaces.tensors import TensorSpec

BLOCK_INPUT = -1
"""Index of the first input of a block; further ones are -2, -3, ..."""


@dataclass(frozen=True)
class Node:
    """An operator and its inputs in a block."""

    op: Operator
    name: str
    """Name in the block, such as `depthwise`; equal names share weights in all subnets."""
    block: str
    """Name of the slot of the block, such as `stages.0.blocks.1`; empty if `name` is the full name."""
    inputs: tuple[int, ...]
    """Indices of the nodes that are read; negative ones are inputs of the block, see `BLOCK_INPUT`."""
    specs: tuple[TensorSpec, ...]
    """Specs of the inputs."""

    @cached_property
    def path(self) -> str:
        """Name in the network, which is also the name of the module with the weights."""
        return f"{self.block}.{self.name}" if self.block else self.name

    @cached_property
    def output(self) -> TensorSpec:
        """Spec of the output."""
        return self.op.output(*self.specs)

    @cached_property
    def macs(self) -> int:
        """Multiply-accumulates for one image."""
        return self.op.macs(*self.specs)

    @cached_property
    def parameters(self) -> Mapping[str, Parameter]:
        """Weights and statistics by name."""
        return self.op.parameters(*self.specs)

    @cached_property
    def params(self) -> int:
        """Number of learned parameters."""
        return sum(parameter.numel for parameter in self.parameters.values() if parameter.learned)

    @cached_property
    def mixes_channels(self) -> bool:
        """Whether an output channel reads several input channels."""
        return self.op.mixes_channels(*self.specs)


@dataclass(frozen=True)
class Block:
    """A part of a network between two boundaries.

    The inputs of a block are the outputs of the previous block; the input of the first block is the images.
    """

    name: str
    inputs: tuple[TensorSpec, ...]
    nodes: tuple[Node, ...]
    """Nodes in topological order."""
    outputs: tuple[int, ...]
    """Indices of the output nodes; a negative one is an input that is passed through."""

    def spec(self, index: int) -> TensorSpec:
        """Spec of a node's output, or of an input for a negative index."""
        return self.inputs[-1 - index] if index < 0 else self.nodes[index].output

    @property
    def output_specs(self) -> tuple[TensorSpec, ...]:
        """Specs of the outputs."""
        return tuple(self.spec(index) for index in self.outputs)

    @cached_property
    def macs(self) -> int:
        """Multiply-accumulates for one image."""
        return sum(node.macs for node in self.nodes)

    @cached_property
    def params(self) -> int:
        """Number of learned parameters."""
        return sum(node.params for node in self.nodes)

    @cached_property
    def key(self) -> str:
        """See `block_key`."""
        nodes, outputs, _ = _deployed(self)
        parts = ["in " + " ".join(map(str, self.inputs))]
        for i, (node, op, inputs) in enumerate(nodes):
            words = [op.token(*node.specs)]
            if node.output.size != node.specs[0].size:
                words.append(f"@{node.output.extent or 1}")
            if inputs != (i - 1,):
                words.append("<" + ",".join("in" if j == BLOCK_INPUT else str(j) for j in inputs))
            parts.append(" ".join(words))
        if outputs != (len(nodes) - 1,):
            parts.append("out " + ",".join(map(str, outputs)))
        return " | ".join(parts)

    @cached_property
    def branch(self) -> Node | None:
        """The last node of the residual branch, if the block ends with the sum of a branch and a shortcut."""
        index = self.outputs[-1]
        while index >= 0 and self.nodes[index].op.in_place:
            index = self.nodes[index].inputs[0]
        if index < 0 or not isinstance(self.nodes[index].op, Add):
            return None
        end = self.nodes[index].inputs[-1]
        return None if end < 0 else self.nodes[end]

    def has(self, operator: type[Operator]) -> bool:
        """Whether the block has an operator of this type."""
        return any(isinstance(node.op, operator) for node in self.nodes)


def chain(blocks: Iterable[Block], name: str = "network") -> Block:
    """A sequence of blocks as one block, whose nodes keep their names."""
    blocks = tuple(blocks)
    nodes: list[Node] = []
    sources = tuple(-1 - i for i in range(len(blocks[0].inputs)))
    for block in blocks:
        start = len(nodes)

        def place(index: int, sources: tuple[int, ...] = sources, start: int = start) -> int:
            return sources[-1 - index] if index < 0 else start + index

        nodes += [replace(node, inputs=tuple(map(place, node.inputs))) for node in block.nodes]
        sources = tuple(map(place, block.outputs))
    return Block(name, blocks[0].inputs, tuple(nodes), sources)


class _Deployed(NamedTuple):
    """A block after batch norms were folded."""

    nodes: list[tuple[Node, Operator, tuple[int, ...]]]
    """The remaining nodes, each with its operator and its inputs in the deployed block."""
    outputs: tuple[int, ...]
    norms: Mapping[int, int]
    """For the index of each folded batch norm in the original block, the index of the layer before it."""


def _deployed(block: Block) -> _Deployed:
    readers = Counter(index for node in block.nodes for index in node.inputs) + Counter(block.outputs)
    norms = {
        i: source
        for i, node in enumerate(block.nodes)
        if isinstance(node.op, BatchNorm)
        and (source := node.inputs[0]) >= 0
        and readers[source] == 1
        and isinstance(block.nodes[source].op, Conv2d | Linear)
    }
    layers = set(norms.values())
    new_index = {-1 - i: -1 - i for i in range(len(block.inputs))}
    nodes: list[tuple[Node, Operator, tuple[int, ...]]] = []
    for i, node in enumerate(block.nodes):
        if i in norms:
            new_index[i] = new_index[norms[i]]
            continue
        new_index[i] = len(nodes)
        op = node.op
        if i in layers:
            assert isinstance(op, Conv2d | Linear)
            op = replace(op, bias=True)
        nodes.append((node, op, tuple(new_index[j] for j in node.inputs)))
    return _Deployed(nodes, tuple(new_index[index] for index in block.outputs), norms)


def fold_batch_norms(block: Block) -> tuple[Block, Mapping[str, Node]]:
    """Fold batch norms into the preceding convolutions and linear layers, as inference runtimes do.

    Returns:
        The block, and for the path of each changed node the batch norm that was folded into it.
    """
    deployed = _deployed(block)
    nodes = tuple(replace(node, op=op, inputs=inputs) for node, op, inputs in deployed.nodes)
    folded = {block.nodes[layer].path: block.nodes[norm] for norm, layer in deployed.norms.items()}
    return replace(block, nodes=nodes, outputs=deployed.outputs), folded


def block_key(block: Block) -> str:
    """Key of a block in a latency table: equal for blocks with equal operators and shapes.

    The key has the inputs and one token for each node of the block with folded batch norms. `<0,2` are the
    inputs of a node, if they are not the previous node; `@n` is the size of a tensor in pixels, if it
    changes. Names are not part of the key.
    """
    return block.key
