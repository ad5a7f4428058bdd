import hypothesis.strategies as st
import numpy as np
from hypothesis import given, settings
from strategies import small_spaces

from search_spaces import BLOCK_INPUT, Block, Space
from search_spaces.block_precision import in_precision
from search_spaces.building import BlockBuilder
from search_spaces.costs import peak_memory_table
from search_spaces.memory import peak_memory_bytes
from search_spaces.operators import Add, Attention, Linear
from search_spaces.precision_space import GRAINS, with_precision
from search_spaces.tensors import TensorSpec, image, tokens


def mixed_spaces() -> st.SearchStrategy[Space]:
    return st.builds(with_precision, small_spaces(), st.sampled_from(GRAINS))


def brute_force(network: Block) -> int:
    """Peak over steps of the total size of all tensors that exist and are read later, and of workspaces."""
    steps = [node for node in network.nodes if not node.op.in_place]
    origin = {BLOCK_INPUT: BLOCK_INPUT}  # of each node, the step whose memory holds its output
    for i, node in enumerate(network.nodes):
        origin[i] = origin[node.inputs[0]] if node.op.in_place else steps.index(node)
    reads = [{origin[j] for j in node.inputs} for node in steps]
    tensors = [(BLOCK_INPUT, size(network.inputs[0]))]
    tensors += [(i, size(node.output)) for i, node in enumerate(steps)]
    peak = 0
    for step, node in enumerate(steps):
        alive = 4 * node.op.workspace(*node.specs)
        for made, numbers in tensors:
            readers = [i for i, read in enumerate(reads) if made in read]
            alive += numbers * (made <= step <= max([made, *readers]))
        peak = max(peak, alive)
    return peak


def size(spec: TensorSpec) -> int:
    return spec.numel * (1 if spec.precision == "int8" and spec.layout != "tokens" else 4)


def test_peak_of_a_chain_is_its_largest_pair_of_neighbours() -> None:
    block = BlockBuilder("b", image(2, 8))
    block.conv("first", 3)
    block.conv("second", 5, stride=2, activation="relu")
    # 8×8: 2·64 + 3·64 = 320 numbers while the first runs; then 3·64 + 5·16 = 272
    assert peak_memory_bytes(block.build()) == 4 * 320


def test_shortcut_keeps_the_input_in_memory() -> None:
    block = BlockBuilder("b", image(2, 8))
    block.conv("expand", 8, activation="relu")
    end = block.conv("project", 2)
    block.combine(Add(), "shortcut", BLOCK_INPUT, end)
    # while the projection runs: input 2, expansion 8 and output 2, of 64 pixels each
    assert peak_memory_bytes(block.build()) == 4 * 12 * 64


def test_outputs_of_the_block_stay_in_memory() -> None:
    block = BlockBuilder("b", image(2, 8))
    first = block.conv("first", 8)
    block.conv("second", 1)
    block.conv("third", 8)
    # while the third runs: the outputs of all three, 8, 1 and 8 channels of 64 pixels
    assert peak_memory_bytes(block.build(first, block.last)) == 4 * 17 * 64


def test_attention_weights_are_in_memory() -> None:
    block = BlockBuilder("b", tokens(10, 4))
    block.add(Linear(12, parts=3), "qkv")
    block.add(Attention(2), "attend")
    # 10 tokens of 12 and of 4 channels, and the weights of 2 heads for each pair of tokens
    assert peak_memory_bytes(block.build()) == 4 * (10 * (12 + 4) + 2 * 10 * 10)


def test_numbers_of_an_int8_block_have_one_byte() -> None:
    block = BlockBuilder("b", image(2, 8))
    block.conv("first", 3)
    # 64 pixels: 2 channels in and 3 out; after a float block the conversion has 2 channels twice
    assert peak_memory_bytes(in_precision(block.build(), "int8")) == 64 * (2 + 3)
    assert peak_memory_bytes(in_precision(block.build(), "int8", "fp32")) == 64 * (4 * 2 + 2)
    tokens_block = BlockBuilder("b", tokens(10, 4))
    tokens_block.linear("first", 3)
    assert peak_memory_bytes(in_precision(tokens_block.build(), "int8")) == 4 * 10 * (4 + 3)


@settings(max_examples=30, deadline=None)
@given(small_spaces() | mixed_spaces(), st.integers(0, 2**32))
def test_many_genomes_at_once_equal_brute_force_on_whole_networks(space: Space, seed: int) -> None:
    raw = np.random.default_rng(seed).integers(0, space.n_options, size=(10, len(space.genes)))
    archs = space.decode(raw)
    expected = [brute_force(space.network(arch)) for arch in archs]
    assert peak_memory_table(space).largest(raw).tolist() == expected
    assert [peak_memory_bytes(space.network(arch)) for arch in archs] == expected


def test_shipped_spaces_equal_brute_force(space: Space, rng: np.random.Generator) -> None:
    genomes = space.sample(rng, 3)
    expected = [brute_force(space.network(arch)) for arch in space.decode(genomes)]
    assert peak_memory_table(space).largest(genomes).tolist() == expected
