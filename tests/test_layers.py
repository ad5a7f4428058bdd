from dataclasses import astuple, replace
from typing import Any

import numpy as np
import pytest

from search_spaces import BLOCK_INPUT, Arch, Block, LayerSpec, Space, block_key
from search_spaces.layers import split_blocks, stitch


def every_block(space: Space) -> list[Block]:
    return [block for slot in space.slots for block in space.slot_blocks(slot)]


def shapes(block: Block) -> list[tuple[Any, ...]]:
    """All that a device computes in a block; names do not count, and a batch norm folds into a bias."""
    return [
        astuple(
            replace(layer, name="", block="", bias=layer.bias or layer.norm_eps is not None, norm_eps=None)
        )
        for layer in block
    ]


def test_costs_of_a_subnet_by_hand(tiny: Space, tiny_arch: Arch) -> None:
    # Every batch norm has 2 parameters per channel. Weights are (c_out * c_in / groups * k * k); a layer's
    # MACs are its weights times the pixels of its output.
    #                                     weights                    pixels  MACs  parameters
    # stem        3x3, 1 > 4, 8x8         4*1*9    =  36               64    2304   36 +  8 =  44
    # stage 0.0   3x3 s2, 4 (expand 1)    4*9      =  36               16     576   36 +  8 =  44
    #             1x1, 4 > 4              4*4      =  16               16     256   16 +  8 =  24
    # stage 0.1   1x1, 4 > 8 (expand 2)   8*4      =  32               16     512   32 + 16 =  48
    #             5x5, 8                  8*25     = 200               16    3200  200 + 16 = 216
    #             1x1, 8 > 4, + shortcut  4*8      =  32               16     512   32 +  8 =  40
    # stage 1.0   1x1, 4 > 8 (expand 2)   8*4      =  32               16     512   32 + 16 =  48
    #             3x3 s2, 8               8*9      =  72                4     288   72 + 16 =  88
    #             SE: 8 > 2 with bias     2*8      =  16                1      16   16 +  2 =  18
    #                 2 > 8 with bias     8*2      =  16                1      16   16 +  8 =  24
    #             1x1, 8 > 6              6*8      =  48                4     192   48 + 12 =  60
    # head        1x1, 6 > 6              6*6      =  36                4     144   36 + 12 =  48
    #             linear, 6 > 3           3*6      =  18                1      18   18 +  3 =  21
    assert [layer.macs for layer in tiny.layers(tiny_arch) if layer.macs] == [
        *(2304, 576, 256, 512, 3200, 512, 512, 288, 16, 16, 192, 144, 18)
    ]
    assert tiny.macs(tiny_arch) == 8546
    assert tiny.params(tiny_arch) == 44 + 44 + 24 + 48 + 216 + 40 + 48 + 88 + 18 + 24 + 60 + 48 + 21


def test_network_by_hand(tiny: Space, tiny_arch: Arch) -> None:
    network = tiny.layers(tiny_arch)
    assert [(layer.block, layer.name, layer.inputs) for layer in network] == [
        ("stem", "conv", (BLOCK_INPUT,)),
        ("stages.0.blocks.0", "depthwise", (0,)),
        ("stages.0.blocks.0", "project", (1,)),
        ("stages.0.blocks.1", "expand", (2,)),
        ("stages.0.blocks.1", "depthwise", (3,)),
        ("stages.0.blocks.1", "project", (4,)),
        ("stages.0.blocks.1", "shortcut", (2, 5)),
        ("stages.1.blocks.0", "expand", (6,)),
        ("stages.1.blocks.0", "depthwise", (7,)),
        ("stages.1.blocks.0", "se.pool", (8,)),
        ("stages.1.blocks.0", "se.reduce", (9,)),
        ("stages.1.blocks.0", "se.expand", (10,)),
        ("stages.1.blocks.0", "se.scale", (8, 11)),
        ("stages.1.blocks.0", "project", (12,)),
        ("head", "conv", (13,)),
        ("head", "pool", (14,)),
        ("head", "classifier", (15,)),
    ]
    # 4 channels of 8x8 after the stem, 8 of 4x4 after the expansion, 3 logits
    assert [network[i].activations for i in (0, 3, 16)] == [256, 128, 3]


def test_stitch_and_split_are_inverse(space: Space, rng: np.random.Generator) -> None:
    for arch in [space.smallest, space.largest, *space.decode(space.sample(rng, 10))]:
        assert split_blocks(space.layers(arch)) == space.blocks(arch)
        assert stitch(space.blocks(arch)) == space.layers(arch)


def test_layers_fit_together(space: Space, rng: np.random.Generator) -> None:
    config = space.config
    for arch in [space.smallest, space.largest, *space.decode(space.sample(rng, 20))]:
        network = space.layers(arch)
        for i, layer in enumerate(network):
            assert all(BLOCK_INPUT <= j < i for j in layer.inputs)
            assert (BLOCK_INPUT in layer.inputs) == (i == 0)
            sources = [network[j] for j in layer.inputs if j != BLOCK_INPUT]
            gates = sources[1:] if layer.op == "multiply" else []  # a gate has one pixel
            assert all((s.c_out, s.size_out) == (layer.c_in, 1) for s in gates)
            for source in sources[: 1 if gates else None]:
                assert (source.c_out, source.size_out) == (layer.c_in, layer.size_in)
            if layer.op == "conv":
                assert layer.size_out == -(-layer.size_in // layer.stride)
            if layer.op in ("avg_pool", "max_pool"):
                assert layer.size_out == -(-layer.size_in // layer.stride)
        assert (network[0].c_in, network[0].size_in) == (config.channels, space.image_size(arch))
        first_conv = next(layer for layer in network if layer.op == "conv")
        assert first_conv.size_in == arch["resolution"]
        assert network[-1].c_out == config.classes


def test_split_refuses_what_reads_from_inside_another_block(tiny: Space, tiny_arch: Arch) -> None:
    network = list(tiny.layers(tiny_arch))
    network[7] = replace(network[7], inputs=(3,))
    with pytest.raises(ValueError, match=r"'expand' of block 'stages.1.blocks.0' must .* inputs=\(3,\)"):
        split_blocks(network)


def test_blocks_share_a_key_exactly_when_they_share_all_shapes(space: Space) -> None:
    keys = {str(shapes(block)): block_key(block) for block in every_block(space)}
    assert len(set(keys.values())) == len(keys)  # different shapes, different keys
    for block in every_block(space):
        assert block_key(block) == keys[str(shapes(block))]  # equal shapes, equal keys


def test_key_knows_nothing_of_the_place(tiny: Space) -> None:
    block = tiny.blocks(tiny.largest)[2]
    moved = tuple(replace(layer, block="elsewhere", name=f"layer {i}") for i, layer in enumerate(block))
    assert block_key(moved) == block_key(block)


CONV = LayerSpec("conv", "conv", "block", (BLOCK_INPUT,), 8, 8, 6, 6, kernel=3)


@pytest.mark.parametrize(
    "other",
    [
        replace(CONV, c_in=4),
        replace(CONV, c_out=4),
        replace(CONV, size_in=5, size_out=5),
        replace(CONV, size_out=3, stride=2),
        replace(CONV, kernel=5),
        replace(CONV, groups=8),
        replace(CONV, bias=True),
        replace(CONV, norm_eps=1e-5),
        replace(CONV, activation="relu"),
    ],
)
def test_each_property_of_a_layer_changes_the_key(other: LayerSpec) -> None:
    assert block_key((other,)) != block_key((CONV,))


POOL = LayerSpec("avg_pool", "pool", "block", (BLOCK_INPUT,), 8, 8, 7, 4, kernel=2, stride=2)


@pytest.mark.parametrize(
    "other",
    [
        replace(POOL, op="max_pool"),
        replace(POOL, padding=1),
        replace(POOL, kernel=3),
        replace(POOL, size_out=3),
        replace(POOL, stride=1),
        replace(POOL, op="resize", kernel=1, stride=1),
    ],
)
def test_each_property_of_a_pool_changes_the_key(other: LayerSpec) -> None:
    assert block_key((other,)) != block_key((POOL,))


@pytest.mark.parametrize(
    ("padding", "size_out", "over_the_edge"),
    [
        (0, 3, False),  # windows 01 23 45; pixel 6 of 7 is dropped
        (0, 4, True),  # and a fourth one that holds pixel 6 alone
        (1, 4, False),  # windows -0 12 34 56
    ],
)
def test_pool_reaches_over_the_edge(padding: int, size_out: int, over_the_edge: bool) -> None:
    assert replace(POOL, padding=padding, size_out=size_out).ceil_mode == over_the_edge


def test_shortcut_changes_the_key() -> None:
    second = replace(CONV, inputs=(0,))
    add = LayerSpec("add", "shortcut", "block", (BLOCK_INPUT, 1), 8, 8, 6, 6)
    keys = {block_key((CONV, second, replace(add, inputs=i))) for i in [(BLOCK_INPUT, 1), (0, 1)]}
    assert len(keys | {block_key((CONV, second))}) == 3
