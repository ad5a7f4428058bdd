from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from search_spaces import BLOCK_INPUT, Arch, Block, Node, Space, block_key
from search_spaces import operators as ops
from search_spaces.building import BlockBuilder
from search_spaces.graph import chain, fold_batch_norms
from search_spaces.tensors import image, tokens, vector


def every_block(space: Space) -> list[Block]:
    return [block for slot in space.slots for block in space.slot_blocks(slot)]


def shapes(block: Block) -> list[tuple[Any, ...]]:
    """All that a device computes in a block; names do not count, and a batch norm folds into a bias."""
    deployed, _ = fold_batch_norms(block)
    nodes = [(type(node.op), repr(_as_computed(node.op)), node.inputs, node.specs) for node in deployed.nodes]
    return [(deployed.inputs, deployed.outputs), *nodes]


def _as_computed(op: ops.Operator) -> ops.Operator:
    """The operator without what selects its weights: factors of any option take the same time."""
    return replace(op, option=()) if isinstance(op, ops.Scale) else op


def test_costs_of_a_subnet_by_hand(tiny: Space, tiny_arch: Arch) -> None:
    # Every batch norm has 2 parameters per channel. Weights are (c_out * c_in / groups * k * k); the MACs of
    # a convolution are its weights times the pixels of its output.
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
    assert [node.macs for node in tiny.network(tiny_arch).nodes if node.macs] == [
        *(2304, 576, 256, 512, 3200, 512, 512, 288, 16, 16, 192, 144, 18)
    ]
    assert tiny.macs(tiny_arch) == 8546
    assert tiny.params(tiny_arch) == 44 + 44 + 24 + 48 + 216 + 40 + 48 + 88 + 18 + 24 + 60 + 48 + 21


def test_network_by_hand(tiny: Space, tiny_arch: Arch) -> None:
    deployed, _ = fold_batch_norms(tiny.network(tiny_arch))
    nodes = [(node.block, node.name, node.inputs) for node in deployed.nodes]
    assert nodes == [
        ("stem", "conv", (BLOCK_INPUT,)),
        ("stem", "conv.act", (0,)),
        ("stages.0.blocks.0", "depthwise", (1,)),
        ("stages.0.blocks.0", "depthwise.act", (2,)),
        ("stages.0.blocks.0", "project", (3,)),
        ("stages.0.blocks.1", "expand", (4,)),
        ("stages.0.blocks.1", "expand.act", (5,)),
        ("stages.0.blocks.1", "depthwise", (6,)),
        ("stages.0.blocks.1", "depthwise.act", (7,)),
        ("stages.0.blocks.1", "project", (8,)),
        ("stages.0.blocks.1", "shortcut", (4, 9)),
        ("stages.1.blocks.0", "expand", (10,)),
        ("stages.1.blocks.0", "expand.act", (11,)),
        ("stages.1.blocks.0", "depthwise", (12,)),
        ("stages.1.blocks.0", "depthwise.act", (13,)),
        ("stages.1.blocks.0", "se.pool", (14,)),
        ("stages.1.blocks.0", "se.reduce", (15,)),
        ("stages.1.blocks.0", "se.reduce.act", (16,)),
        ("stages.1.blocks.0", "se.expand", (17,)),
        ("stages.1.blocks.0", "se.expand.act", (18,)),
        ("stages.1.blocks.0", "se.scale", (14, 19)),
        ("stages.1.blocks.0", "project", (20,)),
        ("head", "conv", (21,)),
        ("head", "conv.act", (22,)),
        ("head", "pool", (23,)),
        ("head", "pool.flat", (24,)),
        ("head", "classifier", (25,)),
    ]
    # 4 channels of 8x8 after the stem, 8 of 4x4 after the expansion, 3 logits
    assert [deployed.nodes[i].output.numel for i in (0, 5, 26)] == [256, 128, 3]


def test_nodes_fit_together(space: Space, rng: np.random.Generator) -> None:
    for arch in [space.smallest, space.largest, *space.decode(space.sample(rng, 20))]:
        network = space.network(arch)
        for i, node in enumerate(network.nodes):
            assert all(BLOCK_INPUT <= j < i for j in node.inputs)
            assert node.specs == tuple(map(network.spec, node.inputs))
            if isinstance(node.op, ops.Add):
                assert node.specs[0] == node.specs[1]
            if isinstance(node.op, ops.Conv2d | ops.Pool2d):
                stride = node.op.stride if isinstance(node.op.stride, int) else node.op.stride[0]
                assert node.output.size == tuple(-(-size // stride) for size in node.specs[0].size)
        assert network.inputs == (image(space.config.channels, space.image_size(arch)),)
        first_conv = next(node for node in network.nodes if isinstance(node.op, ops.Conv2d))
        assert first_conv.specs[0].size[0] == arch["resolution"]
        assert network.output_specs == (vector(space.config.outputs),)


def test_chain_hands_on_several_tensors() -> None:
    # the first block outputs its input and a new tensor; the second block reads both
    first = BlockBuilder("first", image(3, 4))
    first.conv("conv", 5)
    second = BlockBuilder("second", image(5, 4), image(3, 4))
    second.add(ops.Concat(), "join", -1, -2)
    network = chain([first.build(first.last, BLOCK_INPUT), second.build()])
    assert network.nodes[-1].inputs == (1, BLOCK_INPUT)
    assert network.output_specs == (image(8, 4),)


def test_folding_keeps_batch_norms_that_follow_no_layer_of_their_own() -> None:
    block = BlockBuilder("b", image(3, 4))
    block.add(ops.BatchNorm(), "before")  # of the input
    conv = block.add(ops.Conv2d(3), "conv")
    norm = block.add(ops.BatchNorm(), "after")
    block.combine(ops.Add(), "shortcut", conv, norm)  # the convolution is read as it is too
    deployed, folded = fold_batch_norms(block.build())
    assert (len(deployed.nodes), folded) == (4, {})


def test_branch_is_what_a_block_adds_to_its_shortcut(tiny: Space) -> None:
    branches = [block.branch for block in tiny.blocks(tiny.largest)]
    names = ["stages.0.blocks.1.project.norm", "stages.1.blocks.1.project.norm"]
    assert [branch.path for branch in branches if branch is not None] == names


def test_blocks_share_a_key_exactly_when_they_share_all_shapes(space: Space) -> None:
    keys = {str(shapes(block)): block_key(block) for block in every_block(space)}
    assert len(set(keys.values())) == len(keys)  # different shapes, different keys
    for block in every_block(space):
        assert block_key(block) == keys[str(shapes(block))]  # equal shapes, equal keys


def test_key_does_not_depend_on_the_position(tiny: Space) -> None:
    block = tiny.blocks(tiny.largest)[2]
    nodes = [replace(node, block="elsewhere", name=f"node {i}") for i, node in enumerate(block.nodes)]
    assert block_key(Block("elsewhere", block.inputs, tuple(nodes), block.outputs)) == block_key(block)


def one(op: ops.Operator, *inputs: Any) -> Block:
    specs = inputs or (image(8, 6),)
    nodes = (Node(op, "op", "block", tuple(-1 - i for i in range(len(specs))), specs),)
    return Block("block", specs, nodes, (0,))


CONV = ops.Conv2d.same(8, 3)


@pytest.mark.parametrize(
    "others",
    [
        [
            one(CONV),
            one(CONV, image(4, 6)),
            one(CONV, image(8, 5)),
            one(CONV, image(8, 6, 5)),
            one(replace(CONV, channels=4)),
            one(replace(CONV, stride=(2, 2))),
            one(replace(CONV, stride=(2, 1))),
            one(replace(CONV, kernel=(5, 5), padding=(2, 2, 2, 2))),
            one(replace(CONV, padding=(0, 0, 2, 2))),
            one(replace(CONV, dilation=(2, 2), padding=(2, 2, 2, 2))),
            one(replace(CONV, groups=8)),
            one(replace(CONV, bias=True)),
            one(ops.AvgPool2d(2, 2)),
            one(ops.MaxPool2d(2, 2)),
            one(ops.AvgPool2d(2, 2, padding=1)),
            one(ops.AvgPool2d(3, 2)),
            one(ops.AvgPool2d(2, 1)),
            one(ops.MaxPool2d(2, 2), image(8, 5)),
            one(ops.MaxPool2d(2, 2, ceil_mode=True), image(8, 5)),
            one(ops.AdaptiveAvgPool2d((2, 2))),
            one(ops.AdaptiveAvgPool2d((3, 3))),
            one(ops.ChannelShuffle(2)),
            one(ops.ChannelShuffle(4)),
            one(ops.LeakyRelu(0.1)),
            one(ops.Resize((4, 4))),
            one(ops.Resize((4, 5))),
            one(ops.Slice(0, 4)),
            one(ops.Slice(4, 8)),
            one(ops.Concat(), image(4, 6), image(4, 6)),
            one(ops.Concat(), image(2, 6), image(6, 6)),
            *(one(activation) for activation in ops.ACTIVATIONS.values()),
            one(ops.LayerNorm(), tokens(6, 8)),
            one(ops.LayerNorm(), tokens(8, 6)),
            one(ops.LayerNorm(), vector(8)),
            one(ops.Linear(8), vector(8)),
            one(ops.Linear(8), tokens(6, 8)),
            one(ops.Linear(8, bias=True), vector(8)),
            one(ops.GlobalAvgPool()),
            one(ops.Flatten()),
        ]
    ],
)
def test_each_property_of_an_operator_changes_the_key(others: list[Block]) -> None:
    assert len({block_key(block) for block in others}) == len(others)


def test_inputs_of_a_node_change_the_key() -> None:
    def block(*inputs: int) -> Block:
        builder = BlockBuilder("b", image(8, 6))
        builder.add(CONV, "first")
        builder.add(CONV, "second")
        builder.add(ops.Add(), "sum", *inputs)
        return builder.build()

    assert len({block_key(block(BLOCK_INPUT, 1)), block_key(block(0, 1)), block_key(block(1, 1))}) == 3


@pytest.mark.parametrize(
    ("size", "padding", "over_the_edge"),
    [
        (6, 0, False),  # windows 01 23 45
        (7, 0, True),  # and a fourth one that holds pixel 6 alone
        (7, 1, False),  # windows -0 12 34 56
    ],
)
def test_pool_reaches_over_the_edge(size: int, padding: int, over_the_edge: bool) -> None:
    assert ops.AvgPool2d(2, 2, padding, ceil_mode=True).extends(image(8, size)) == over_the_edge


@pytest.mark.parametrize(
    ("axis", "full", "expected"),
    [
        (ops.Prefix(2), 5, ((0, 2),)),
        (ops.Centre(3), 7, ((2, 5),)),
        (ops.Groups(3, 2), 12, ((0, 2), (4, 6), (8, 10))),  # query, key and value of 4, the first 2 of each
        (ops.Groups(3, 4), 12, ((0, 12),)),
        (ops.Segments(((0, 1), (4, 6))), 8, ((0, 1), (4, 6))),
    ],
)
def test_ranges_of_axes(axis: ops.Axis, full: int, expected: Any) -> None:
    assert axis.ranges(full) == expected
    assert sum(end - start for start, end in expected) == axis.size
