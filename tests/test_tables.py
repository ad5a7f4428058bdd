import hypothesis.strategies as st
import numpy as np
from hypothesis import given, settings
from strategies import small_spaces

from search_spaces import Block, BlockTable, Space
from search_spaces.costs import macs_table, params_table


def largest_map(block: Block) -> float:
    """A value that is no plain sum over nodes."""
    return max(node.output.numel for node in block.nodes)


def test_totals_equal_the_sums_over_blocks(any_space: Space, rng: np.random.Generator) -> None:
    space = any_space
    genomes = rng.integers(0, space.n_options, size=(60, len(space.genes)))  # raw
    archs = space.decode(genomes)
    np.testing.assert_array_equal(macs_table(space)(genomes), [space.macs(arch) for arch in archs])
    np.testing.assert_array_equal(params_table(space)(genomes), [space.params(arch) for arch in archs])
    table = BlockTable(space, largest_map)
    np.testing.assert_array_equal(
        table(genomes), [sum(largest_map(block) for block in space.blocks(arch)) for arch in archs]
    )


@settings(max_examples=30, deadline=None)
@given(small_spaces(), st.integers(0, 2**32))
def test_totals_equal_the_sums_in_any_space(space: Space, seed: int) -> None:
    genomes = np.random.default_rng(seed).integers(0, space.n_options, size=(20, len(space.genes)))
    archs = space.decode(genomes)
    np.testing.assert_array_equal(macs_table(space)(genomes), [space.macs(arch) for arch in archs])
    np.testing.assert_array_equal(params_table(space)(genomes), [space.params(arch) for arch in archs])


def test_columns_are_slots_and_empty_ones_are_zero(space: Space, rng: np.random.Generator) -> None:
    table = BlockTable(space, largest_map)
    genomes = space.sample(rng, 30)
    for row, arch in zip(table.per_slot(genomes), space.decode(genomes), strict=True):
        found = {block.name: largest_map(block) for block in space.blocks(arch)}
        assert row.tolist() == [found.get(slot.name, 0.0) for slot in space.slots]


def test_raw_and_canonical_genomes_have_equal_totals(space: Space, rng: np.random.Generator) -> None:
    raw = rng.integers(0, space.n_options, size=(200, len(space.genes)))
    np.testing.assert_array_equal(macs_table(space)(raw), macs_table(space)(space.canonical(raw)))


def test_each_possible_block_is_asked_for_once(tiny: Space) -> None:
    asked: list[Block] = []
    BlockTable(tiny, lambda block: asked.append(block) or 0.0)  # type: ignore[func-returns-value]
    assert asked == [block for slot in tiny.slots for block in tiny.slot_blocks(slot)]


def test_no_genomes_have_no_totals(tiny: Space) -> None:
    assert macs_table(tiny)(np.zeros((0, len(tiny.genes)), dtype=np.int64)).shape == (0,)
