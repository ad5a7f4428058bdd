"""Ranking of blocks, so that smaller depths leave out unimportant ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from search_spaces import Block, Space
from search_spaces.families.vit import ViTSpace


def rank_blocks(space: ViTSpace, loss_of: Callable[[Sequence[Block]], float]) -> tuple[int, ...]:
    """Rank the blocks by how much removing each one changes the loss of the largest subnet.

    For each smaller depth, the block whose removal increases the loss least is removed in addition to those
    that were removed before.

    Args:
        space: the space, whose depths remove the last blocks.
        loss_of: the loss of a network of some of the largest subnet's blocks.

    Returns:
        indices of the blocks from the most to the least important one, as for `ViTConfig.keep`; those that
        every depth has are in order.
    """
    assert space.config.keep is None
    blocks = dict(zip((slot.name for slot in space.slots), space.blocks(space.largest), strict=True))
    depth = {slot.name: slot.position for slot in space.slots if slot.depth is not None}
    depths = space.config.depth
    remaining = list(range(depths[-1]))
    removed: list[int] = []

    def loss_without(index: int) -> float:
        left_out = {*removed, index}
        return loss_of([block for name, block in blocks.items() if depth.get(name) not in left_out])

    while len(remaining) > depths[0]:
        least = min(remaining, key=loss_without)
        remaining.remove(least)
        removed.append(least)
    return (*remaining, *reversed(removed))


def rank_blocks_of_stages(space: Space, loss_of: Callable[[Sequence[Block]], float]) -> dict[str, list[str]]:
    """Rank the blocks that each depth can skip by the loss of the largest subnet without each of them.

    Args:
        space: the space; each block that a depth can skip keeps the shape of its input.
        loss_of: the loss of a network of some of the largest subnet's blocks.

    Returns:
        for each depth, the names of its blocks from the most to the least important one.
    """
    blocks = space.blocks(space.largest)
    depths: dict[str, list[str]] = {}
    for slot in space.slots:
        if slot.depth is not None:
            depths.setdefault(slot.depth, []).append(slot.name)
    losses = {
        name: loss_of([block for block in blocks if block.name != name])
        for names in depths.values()
        for name in names
    }
    return {depth: sorted(names, key=losses.__getitem__, reverse=True) for depth, names in depths.items()}
