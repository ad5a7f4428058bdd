import itertools
import pickle
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from conftest import FAST_SPACES, LARGE_SPACES, TINY_YAML, space_named
from hypothesis import given, settings
from strategies import small_spaces

import search_spaces
from search_spaces import Arch, Genomes, Space
from search_spaces.building import make_divisible
from search_spaces.costs import macs_table, params_table


def all_genomes(space: Space) -> Genomes:
    """Every raw genome of a small space."""
    return np.array(list(itertools.product(*(range(n) for n in space.n_options))), dtype=np.int64)


@settings(max_examples=40, deadline=None)
@given(small_spaces())
def test_enumeration_agrees_with_counts_and_canonical_form(space: Space) -> None:
    raw = all_genomes(space)
    canonical = space.canonical(raw)
    archs = space.decode(raw)
    assert len(np.unique(canonical, axis=0)) == len(set(archs)) == space.n_subnets
    np.testing.assert_array_equal(space.encode(archs), canonical)
    assert space.decode(canonical) == archs
    np.testing.assert_array_equal(space.canonical(canonical), canonical)


@settings(max_examples=40, deadline=None)
@given(small_spaces(), st.integers(0, 2**32))
def test_yaml_round_trip(space: Space, seed: int) -> None:
    again = search_spaces.parse(space.to_yaml())
    assert again.config == space.config
    archs = space.decode(space.sample(np.random.default_rng(seed), 5))
    assert [again.blocks(arch) for arch in archs] == [space.blocks(arch) for arch in archs]


def test_tiny_space_has_as_many_subnets_as_by_hand(tiny: Space) -> None:
    # 2 resolutions, 2 stem widths, 2 head widths;
    # stage 0: 2 widths, and per block 2 kernels x 2 expands: 4 with one block, 16 with two;
    # stage 1: 2 depths x 2 expands for the whole stage
    assert tiny.n_subnets == 2 * 2 * 2 * (2 * (4 + 16)) * (2 * 2)


def test_digits_is_large_enough() -> None:
    assert search_spaces.get("digits").n_subnets >= 10**9


def test_spaces_of_the_tests_have_every_operator_of_the_shipped_ones() -> None:
    def operators(name: str) -> set[tuple[object, ...]]:
        nodes = space_named(name).network(space_named(name).largest).nodes
        return {(type(node.op), tuple(sorted(node.parameters))) for node in nodes}

    tested = set[tuple[object, ...]]().union(*map(operators, (*FAST_SPACES, *LARGE_SPACES)))
    for name in search_spaces.names():
        assert operators(name) <= tested, name


def test_round_trips_in_every_space(any_space: Space, rng: np.random.Generator) -> None:
    space = any_space
    raw = rng.integers(0, space.n_options, size=(300, len(space.genes)))
    archs = space.decode(raw)
    np.testing.assert_array_equal(space.encode(archs), space.canonical(raw))
    assert space.decode(space.encode(archs)) == archs
    sample = space.sample(rng, 300)
    np.testing.assert_array_equal(sample, space.canonical(sample))


def test_canonical_leaves_its_argument_alone(tiny: Space, rng: np.random.Generator) -> None:
    raw = rng.integers(0, tiny.n_options, size=(50, len(tiny.genes)))
    before = raw.copy()
    assert (tiny.canonical(raw) != raw).any()
    np.testing.assert_array_equal(raw, before)


def test_sampling_reaches_every_subnet_and_follows_the_seed(tiny: Space) -> None:
    def draw(seed: int) -> Genomes:
        return tiny.sample(np.random.default_rng(seed), 20_000)

    # the rarest canonical row has probability 1/2048: missed by 20,000 draws with p = e^-9.8 each,
    # so of 1,280 rows 0.07 are missed on average; the seed is fixed
    assert len(np.unique(draw(1), axis=0)) == 1280
    np.testing.assert_array_equal(draw(1), draw(1))
    assert (draw(1) != draw(2)).any()


def test_smallest_and_largest_bound_all_costs(any_space: Space, rng: np.random.Generator) -> None:
    space = any_space
    genomes = space.sample(rng, 500)
    for cost, table in ((space.macs, macs_table(space)), (space.params, params_table(space))):
        totals = table(genomes)
        assert cost(space.smallest) <= totals.min()
        assert totals.max() <= cost(space.largest)


def test_space_survives_pickling(space: Space) -> None:
    again = pickle.loads(pickle.dumps(space))
    assert again.config == space.config
    assert again.blocks(again.largest) == space.blocks(space.largest)


def test_with_data_changes_only_input_channels_and_classes(tiny: Space, tiny_arch: Arch) -> None:
    network = tiny.with_data(outputs=7, channels=3).network(tiny_arch)
    before = tiny.network(tiny_arch)
    assert network.inputs[0].channels == 3
    assert network.output_specs[0].channels == 7
    assert network.nodes[1:-1] == before.nodes[1:-1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"resolution": 7}, r"resolution must be one of \(6, 8\) in the space 'tiny', got 7"),
        ({"stages.0.blocks.0.kernel": 7}, r"stages\.0\.blocks\.0\.kernel must be one of \(3, 5\)"),
        ({"stages.0.depth": 3}, r"stages\.0\.depth must be one of \(1, 2\) in the space 'tiny', got 3"),
        ({"stages.0.depth": 1}, r"missing none, unknown or switched off stages\.0\.blocks\.1\.expand, "),
        ({"colour": 3}, r"missing none, unknown or switched off colour"),
    ],
)
def test_arch_outside_the_space_is_refused(
    tiny: Space, tiny_arch: Arch, changes: dict[str, int], message: str
) -> None:
    arch = tiny_arch | changes
    with pytest.raises(ValueError, match=message):
        tiny.encode([arch])
    with pytest.raises(ValueError, match=message):
        tiny.blocks(arch)


def test_arch_that_lacks_a_choice_is_refused(tiny: Space, tiny_arch: Arch) -> None:
    for name in tiny_arch:
        with pytest.raises(ValueError, match=rf"missing .*{name}"):
            tiny.encode([Arch({other: value for other, value in tiny_arch.items() if other != name})])


def test_wrong_genomes_are_refused(tiny: Space) -> None:
    with pytest.raises(ValueError, match=r"must have shape \(n, 11\), got \(11,\)"):
        tiny.decode(np.zeros(11, dtype=np.int64))
    for bad in (-1, 2):
        with pytest.raises(ValueError, match="genes must"):
            tiny.decode(np.full((1, 11), bad))


# ---------------------------------------------------------------------- files


def test_shipped_spaces_are_listed_and_named_like_their_files() -> None:
    assert {"cifar", "digits"} <= set(search_spaces.names())
    assert [search_spaces.get(name).name for name in search_spaces.names()] == search_spaces.names()


def test_own_file_works_where_a_name_does(tmp_path: Path, tiny: Space) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(TINY_YAML)
    assert search_spaces.get(file).config == search_spaces.get(str(file)).config == tiny.config


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("divisor: 2", "divisor: zero", r"line 5, divisor: input should be a valid integer.*got 'zero'"),
        ("divisor: 2", "divisr: 2", r"line 5, divisr: unknown key"),
        (
            "kernel: [3, 5]",
            "kernel: [3, 4]",
            # and nothing of stages that are missing because this one is wrong
            r"line 8, stages\.0\.kernel: kernel sizes must be odd, got \[3, 4\]$",
        ),
        ("width: [2, 4], depth", "width: [4, 2], depth", r"stages\.0\.width: options must be a rising list"),
        ("width: [2, 4], depth", "width: [], depth", r"stages\.0\.width: options must be a rising list"),
        ("resolutions: [6, 8]", "resolutions: [0, 8]", r"line 4, resolutions\.0: .* greater than 0, got 0"),
        ("outputs: 3", "outputs: 3\noutputs: 4", r"line 3: the key 'outputs' must occur once .* line 2"),
        ("divisor: 2", "stages: []\ndivisor: 2", r"the key 'stages' must occur once"),
        ("stages:", "stages: []\nx:", r"line 7, stages: tuple should have at least 1 item"),
        ("stride: 1,", "stride: 1, stride: 2,", r"the key 'stride' must occur once"),
        ("divisor: 2", "divisor: 2\nnorm_eps: .inf", r"line 6, norm_eps: .*finite number, got inf"),
        ("outputs: 3", "outputs: 0", r"line 2, outputs: .* greater than 0, got 0"),
        ("channels: 1", "channels: 2", r"line 3, channels: .* 1 or 3, got 2"),
        (
            "activation: hard_swish, se",
            "activation: mish, se",
            r"line 9, stages\.1\.activation: .*got 'mish'",
        ),
        ("relu}\nstages", "relu9}\nstages", r"line 6, stem\.activation: .*got 'relu9'"),
        ("depth: [1, 2], kernel", "depth: [0, 2], kernel", r"line 8, stages\.0\.depth\.0: .*greater than 0"),
        ("head: {", "heads: {", r"head: field required; line 10, heads: unknown key"),
        (
            "name: tiny",
            "name: tiny\nfamily: rnn",
            r"family must be one of \['hybrid', 'mbconv', .*\], got 'rnn'",
        ),
        ("name: tiny", "name: 2024-02-30", r"is not YAML: day is out of range for month"),
        ("name: tiny", "name: !!int abc", r"is not YAML: invalid literal for int"),
        ("name: tiny", f"name: {'[' * 990}{']' * 990}", r"too many levels of nested lists"),
        ("name: tiny", f"name: {'[' * 90}{']' * 90}", r"line 1, name: input should be a valid string"),
        ("name: tiny", "name: tiny\nschema_version: 2", r"line 2, schema_version: input should be 1, got 2"),
    ],
)
def test_wrong_file_is_refused_with_the_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in TINY_YAML
    file = tmp_path / "mine.yaml"
    file.write_text(TINY_YAML.replace(old, new, 1))
    with pytest.raises(ValueError, match=message) as caught:
        search_spaces.get(file)
    assert str(caught.value).startswith(str(file))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"- 1\n- 2\n", b"a: [1, 2", b"\xff\xfe\x00\x01", b"just words"])
def test_file_that_is_no_space_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "mine.yaml"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"mine\.yaml") as caught:
        search_spaces.get(file)
    assert "\n" not in str(caught.value)


def test_unknown_name_lists_the_spaces(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must be one of \[.*'digits'.*\] or the path.* got 'digit'"):
        search_spaces.get("digit")
    with pytest.raises(ValueError, match=r"cannot read the space .*none\.yaml: No such file"):
        search_spaces.get(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("channels", "divisor", "expected"),
    [
        (16, 8, 16),
        (20, 8, 24),  # halfway is rounded up
        (17, 8, 16),  # the nearest multiple; 16 is above 90 % of 17, 15.3
        (18, 8, 24),  # 16 would be the nearest, but it is below 90 % of 18, 16.2
        (3, 8, 8),  # at least the divisor
    ],
)
def test_make_divisible(channels: float, divisor: int, expected: int) -> None:
    assert make_divisible(channels, divisor) == expected
