"""Spaces with the precision as a choice: their genomes, and the borders between their blocks."""

import itertools
import pickle

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from strategies import small_spaces
from test_space import all_genomes

import search_spaces
from search_spaces import Space, block_key
from search_spaces.block_precision import (
    border,
    ends_in_float,
    in_precision,
    precision_of,
    reads_floats,
    without_border,
)
from search_spaces.costs import macs_table, params_table
from search_spaces.precision_space import GRAINS, Grain, PrecisionSpace, with_precision
from search_spaces.tensors import Precision

grains = st.sampled_from(GRAINS)


@settings(max_examples=15, deadline=None)
@given(small_spaces(), grains)
def test_enumeration_agrees_with_counts_and_canonical_form(base: Space, grain: Grain) -> None:
    space = with_precision(base, grain)
    raw = all_genomes(space)[:: max(1, len(all_genomes(space)) // 5000)]
    archs = space.decode(raw)
    np.testing.assert_array_equal(space.encode(archs), space.canonical(raw))
    assert space.decode(space.canonical(raw)) == archs
    assert len(set(archs)) <= space.n_subnets


@settings(max_examples=15, deadline=None)
@given(small_spaces(), grains, st.integers(0, 2**32))
def test_blocks_are_those_of_the_base_space_with_borders_where_the_precision_changes(
    base: Space, grain: Grain, seed: int
) -> None:
    space = with_precision(base, grain)
    genomes = space.sample(np.random.default_rng(seed), 5)
    for arch in space.decode(genomes):
        blocks = space.blocks(arch)
        assert [in_precision(without_border(block), "fp32") for block in blocks] == list(
            base.blocks(space.base_arch(arch))
        )
        assert not border(blocks[0])
        for before, block in itertools.pairwise(blocks):
            assert before.output_specs == block.inputs
            assert bool(border(block)) == (precision_of(before) != precision_of(block))
            floats = bool(border(block)) and precision_of(before) == "int8" and ends_in_float(before)
            assert reads_floats(block) == floats
    base_genomes = base.encode([space.base_arch(arch) for arch in space.decode(genomes)])
    np.testing.assert_array_equal(macs_table(space)(genomes), macs_table(base)(base_genomes))
    np.testing.assert_array_equal(params_table(space)(genomes), params_table(base)(base_genomes))


@settings(max_examples=10, deadline=None)
@given(small_spaces(), grains)
def test_uniform_precisions_are_in_every_space(base: Space, grain: Grain) -> None:
    space = with_precision(base, grain)
    for precision in ("fp32", "int8"):
        arch = space.uniform(base.largest, precision)
        assert set(space.precisions(arch).values()) == {precision}
        assert space.base_arch(arch) == base.largest
    assert space.uniform(base.largest, "fp32") == space.largest
    assert space.uniform(base.smallest, "int8") == space.smallest


@pytest.mark.parametrize("grain", GRAINS)
def test_space_survives_yaml_pickling_and_other_data(tiny: Space, grain: Grain) -> None:
    space = with_precision(tiny, grain)
    again = search_spaces.parse(space.to_yaml()), pickle.loads(pickle.dumps(space))
    for other in again:
        assert isinstance(other, PrecisionSpace)
        assert (other.choices, other.base.config) == (space.choices, tiny.config)
    moved = space.with_data(outputs=7, channels=3)
    assert moved.same_but_for_data(space)
    assert not moved.same_but_for_data(tiny)
    assert not tiny.same_but_for_data(moved)


def test_numbers_of_subnets_as_by_hand(tiny: Space) -> None:
    # tiny has the slots stem, two blocks in stage 0 (the second one optional), one or two in stage 1, head
    subnets = tiny.n_subnets
    assert with_precision(tiny, "from").n_subnets == subnets * 5  # stem, 2 first blocks, head, none
    assert with_precision(tiny, "stage").n_subnets == subnets * 2**4


def test_key_of_a_float_block_is_unchanged_and_int8_has_its_own(tiny: Space) -> None:
    block = tiny.blocks(tiny.largest)[1]
    assert block_key(in_precision(block, "fp32")) == block_key(block)
    precisions: tuple[Precision, ...] = ("fp32", "int8")
    keys = {block_key(in_precision(block, *pair)) for pair in itertools.product(precisions, repeat=2)}
    assert len(keys) == 4


def test_unknown_grain_is_refused(tiny: Space) -> None:
    with pytest.raises(ValueError, match=r"bits must be one of \['from', 'stage', 'block'\], got 'layer'"):
        search_spaces.parse(f"{tiny.to_yaml()}bits: layer\n")
