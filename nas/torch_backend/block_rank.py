"""Ranking of blocks, so that smaller depths leave out unimportant blocks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from search_spaces import Block, Space


def rank_blocks(space: Space, loss_of: Callable[[Sequence[Block]], float]) -> dict[str, list[int]]:
    """Rank the blocks of each depth by how much the loss of the largest subnet changes without each block.

    Blocks are removed one by one, each time the block whose removal increases the loss least, until the
    smallest depth is reached. Meanwhile all other depths stay at their largest value.

    Args:
        space: the space; each block that a depth can remove keeps the shape of its input.
        loss_of: returns the loss of a network that consists of some blocks of the largest subnet.

    Returns:
        for each depth with several options, the positions of its blocks (`Slot.position`) from the most to
        the least important block; blocks that are never removed come first, in their order.
    """
    slots = [*zip(space.slots, space.blocks(space.largest), strict=True)]
    ranking: dict[str, list[int]] = {}
    for depth in dict.fromkeys(slot.depth for slot in space.slots):
        if depth is None or len(space.choices[depth].options) == 1:
            continue
        options = space.choices[depth].options
        remaining = list(dict.fromkeys(slot.position for slot in space.slots if slot.depth == depth))
        removed: list[int] = []

        def loss_without(position: int, depth: str = depth, removed: Sequence[int] = removed) -> float:
            left_out = {*removed, position}
            return loss_of([b for s, b in slots if s.depth != depth or s.position not in left_out])

        for _ in range(int(options[-1]) - int(options[0])):
            least = min(remaining, key=loss_without)
            remaining.remove(least)
            removed.append(least)
        ranking[depth] = [*remaining, *reversed(removed)]
    return ranking
