"""Blocks in another precision, and the borders between precisions."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from search_spaces.graph import Block, Node
from search_spaces.operators import Convert
from search_spaces.tensors import INT8, Precision, TensorSpec


def in_precision(
    block: Block, precision: Precision, entering: Precision | None = None, *, unrounded: bool = False
) -> Block:
    """A copy of a block that computes in another precision.

    Args:
        block: a block without borders.
        precision: precision of its nodes.
        entering: precision of its inputs. If it differs, the block begins with a border: one `Convert` for
            each input. None: `precision`.
        unrounded: whether the outputs of the previous block are in floating point, see `ends_in_float`.
    """
    entering = entering or precision
    if entering == precision == precision_of(block):
        return block
    inputs = tuple(_spec_in(spec, entering) for spec in block.inputs)
    converts = [
        Node(
            Convert(precision, unrounded and entering == INT8),
            _convert_name(i),
            block.name,
            (-1 - i,),
            (spec,),
        )
        for i, spec in enumerate(inputs)
        if entering != precision
    ]
    shift = len(converts)

    def moved(index: int) -> int:
        return index + shift if index >= 0 or not shift else -1 - index

    nodes = [
        Node(
            node.op,
            node.name,
            node.block,
            tuple(map(moved, node.inputs)),
            tuple(_spec_in(spec, precision) for spec in node.specs),
        )
        for node in block.nodes
    ]
    return Block(block.name, inputs, (*converts, *nodes), tuple(map(moved, block.outputs)))


def ends_in_float(block: Block) -> bool:
    """Whether the outputs of a block are floating-point values even if the block is in INT8."""
    ends = [block.nodes[i] for i in block.outputs if i >= 0]
    return bool(ends) and not any(node.op.in_integers and node.output.layout != "tokens" for node in ends)


def reads_floats(block: Block) -> bool:
    """Whether a block reads floating-point values from a previous block in INT8, see `ends_in_float`."""
    return any(isinstance(node.op, Convert) and node.op.unrounded for node in border(block))


def border(block: Block) -> tuple[Node, ...]:
    """The nodes at the start of a block that convert its inputs to its precision."""
    return tuple(node for node in block.nodes[: len(block.inputs)] if isinstance(node.op, Convert))


def without_border(block: Block) -> Block:
    """The block with inputs in its own precision."""
    converts = len(border(block))
    if not converts:
        return block

    def moved(index: int) -> int:
        return index - converts if index >= converts else -1 - index

    nodes = tuple(replace(node, inputs=tuple(map(moved, node.inputs))) for node in block.nodes[converts:])
    inputs = tuple(node.output for node in block.nodes[:converts])
    return Block(block.name, inputs, nodes, tuple(map(moved, block.outputs)))


def precision_of(block: Block) -> Precision:
    """Precision of the nodes of a block."""
    return block.output_specs[0].precision if block.nodes else block.inputs[0].precision


@lru_cache(maxsize=1 << 16)
def _spec_in(spec: TensorSpec, precision: Precision) -> TensorSpec:
    return replace(spec, precision=precision)


def _convert_name(position: int) -> str:
    return f"convert.{position}" if position else "convert"
