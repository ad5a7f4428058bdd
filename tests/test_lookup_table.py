import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import make_device
from hypothesis import given, settings
from hypothesis import strategies as st

import search_spaces
from hw_profiles import store as store_module
from hw_profiles.latency_models.block_timing import (
    Boundary,
    BoundaryTimes,
    TimedBlock,
    boundaries_of,
    inside_network_ms,
    timed_blocks,
)
from hw_profiles.latency_models.lookup_table import LatencyTable
from hw_profiles.latency_models.prediction_error import compare
from hw_profiles.latency_models.robust_regression import Affine, fit_affine
from hw_profiles.latency_models.subnet_split import SubnetSplit, calibration_subnets
from hw_profiles.store import ProfileStore
from search_spaces import Block, block_key

SPACE = search_spaces.get("digits")
LINE = Affine(slope=1.5, intercept_ms=0.25)


@cache
def blocks_of_space() -> dict[str, TimedBlock]:
    """The blocks that are timed for the space."""
    return timed_blocks(SPACE)


def block_cost(block: Block) -> float:
    """A made-up latency: any function of the block will do."""
    return 0.001 * len(block.nodes) + 1e-6 * block.macs


def block_frame() -> pd.DataFrame:
    rows = [
        {"block_key": key, "latency_ms": block_cost(timed.block), "trials": 4, "spread": 0.01}
        for key, timed in blocks_of_space().items()
    ]
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def table() -> LatencyTable:
    """The table of all blocks."""
    return LatencyTable("pi4", block_frame(), LINE)


# ---------------------------------------------------------------- table


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_prediction_is_the_calibrated_sum_over_blocks(table: LatencyTable, seed: int) -> None:
    rng = np.random.default_rng(seed)
    raw = rng.integers(0, SPACE.n_options, size=(5, len(SPACE.genes)))
    archs = SPACE.decode(raw)
    expected = [0.25 + 1.5 * sum(block_cost(block) for block in SPACE.blocks(arch)) for arch in archs]
    np.testing.assert_allclose(table.predict(raw, SPACE), expected)
    np.testing.assert_allclose(table.predict(SPACE.canonical(raw), SPACE), expected)
    assert table.missing_keys(archs, SPACE) == []


def test_layout_for_a_space_is_built_once(table: LatencyTable) -> None:
    assert table.of(SPACE) is table.of(SPACE)


def test_missing_blocks_are_named_with_the_command() -> None:
    arch = SPACE.largest
    absent = block_key(SPACE.blocks(arch)[2])
    blocks = block_frame()
    table = LatencyTable("pi4", blocks[blocks["block_key"] != absent], LINE)
    with pytest.raises(ValueError, match="lacks 1 blocks") as caught:
        table.predict(SPACE.encode([SPACE.smallest, arch]), SPACE)
    assert absent in str(caught.value)
    assert "`nas profile digits --device pi4`" in str(caught.value)
    assert table.missing_keys([arch], SPACE) == [absent]


def test_subnets_without_the_missing_block_are_still_predicted() -> None:
    blocks = block_frame()
    absent = block_key(SPACE.blocks(SPACE.largest)[2])
    table = LatencyTable("pi4", blocks[blocks["block_key"] != absent], LINE)
    assert np.isfinite(table.predict(SPACE.encode([SPACE.smallest]), SPACE)).all()


def test_many_missing_blocks_are_counted_not_listed() -> None:
    table = LatencyTable("pi4", block_frame().head(0), LINE)
    distinct = {block_key(block) for block in SPACE.blocks(SPACE.largest)}
    with pytest.raises(ValueError, match=f"lacks {len(distinct)} blocks .*; …"):
        table.predict(SPACE.encode([SPACE.largest]), SPACE)


# ---------------------------------------------------------------- calibration and errors


@settings(deadline=None)
@given(slope=st.floats(0.2, 5), intercept=st.floats(0, 2), unit=st.sampled_from([1e-3, 1.0, 1e6]))
def test_line_is_recovered_in_any_unit(slope: float, intercept: float, unit: float) -> None:
    x = np.linspace(1, 4, 12)
    line = fit_affine(x * unit, slope * x + intercept)
    assert line.slope == pytest.approx(slope / unit, rel=1e-3)
    assert line(x * unit) == pytest.approx(slope * x + intercept, rel=1e-3)


def test_one_disturbed_subnet_hardly_moves_the_line() -> None:
    x = np.linspace(1, 4, 12)
    measured = 2 * x + 1
    measured[5] *= 1.5
    # least squares would be pulled by a twelfth of 50 %, about 4 %
    np.testing.assert_allclose(fit_affine(x, measured)(x), 2 * x + 1, rtol=0.01)


def test_errors_by_hand() -> None:
    # relative errors 0, +3 %, -8 %, +20 %; of the 6 pairs only (second, third) is swapped: tau = (5 - 1) / 6;
    # rank differences 0, 1, 1, 0: spearman = 1 - 6 * 2 / (4 * 15) = 0.8
    record = compare(np.array([1.0, 2.06, 2.024, 3.6]), np.array([1.0, 2.0, 2.2, 3.0]))
    assert record.n == 4
    assert record.mape == pytest.approx(0.31 / 4)
    assert record.bias == pytest.approx(0.15 / 4)
    assert record.within_5_percent == 0.5
    assert record.within_10_percent == 0.75
    assert record.kendall_tau == pytest.approx(4 / 6)
    assert record.spearman == pytest.approx(0.8)


# ---------------------------------------------------------------- plan


def test_every_block_of_random_subnets_is_planned() -> None:
    for arch in SPACE.decode(SPACE.sample(np.random.default_rng(0), 50)):
        assert {block_key(block) for block in SPACE.blocks(arch)} <= blocks_of_space().keys()


@settings(max_examples=20, deadline=None)
@given(overhead=st.floats(0, 1), seed=st.integers(0, 2**31))
def test_blocks_are_exact_on_an_additive_machine(overhead: float, seed: int) -> None:
    # a machine on which layers add up, with a random cost for each boundary of a graph
    rng = np.random.default_rng(seed)
    boundary_cost = {boundary: overhead * rng.random() for boundary in boundaries_of(blocks_of_space())}

    def run(blocks: tuple[Block, ...], boundaries: tuple[Boundary, ...]) -> float:
        return sum(map(block_cost, blocks)) + sum(boundary_cost[boundary] / 2 for boundary in boundaries)

    times = {
        e: BoundaryTimes(run((e.calibration_convs(1),), (e, e)), run((e.calibration_convs(3),), (e, e)))
        for e in boundary_cost
    }
    for timed in blocks_of_space().values():
        measured = run(timed.blocks, timed.boundaries)
        assert inside_network_ms(timed, measured, times) == pytest.approx(block_cost(timed.block))


def test_network_ends_carry_no_probe() -> None:
    stem, *_, head = SPACE.blocks(SPACE.largest)
    assert blocks_of_space()[block_key(stem)].before is None
    assert blocks_of_space()[block_key(stem)].after is not None
    assert blocks_of_space()[block_key(head)].after is None
    assert blocks_of_space()[block_key(head)].before is not None


def test_calibration_spreads_from_small_to_large() -> None:
    archs = calibration_subnets(SPACE, np.random.default_rng(0), 12)
    assert len(set(archs)) == 12
    macs = [SPACE.macs(arch) for arch in archs]
    drawn = [SPACE.macs(a) for a in SPACE.decode(SPACE.sample(np.random.default_rng(0), 12))]
    assert max(macs) / min(macs) > max(drawn) / min(drawn)


@pytest.mark.parametrize("name", ["digits", "cifar", "ofa-mbv3-w1.0"])
def test_no_subnet_is_fitted_to_and_held_out(name: str) -> None:
    space = search_spaces.get(name)
    for seed in range(20):
        split = SubnetSplit.draw(space, np.random.default_rng(seed), 24, 48)
        assert split.held_out[:2] == [space.smallest, space.largest]
        assert len({*split.calibration, *split.held_out}) == 24 + 48


@pytest.mark.parametrize(
    ("depth", "expand", "n"),
    [([1], [2], 2), ([1], [1, 2], 4), ([1, 2], [1, 2], 12), ([1, 2, 3], [1, 2, 3], 78)],
)
def test_a_small_space_is_split_whole(depth: list[int], expand: list[int], n: int) -> None:
    stage = {"width": [4, 8], "depth": depth, "kernel": [3], "expand": expand, "stride": 1}
    config = SPACE.config.model_dump() | {"name": "few", "stages": [stage], "head": {"width": [8]}}
    space = search_spaces.parse(json.dumps(config))
    assert space.n_subnets == len(space.all_subnets()) == n
    split = SubnetSplit.draw(space, np.random.default_rng(0), 24, 48)
    found = [*split.calibration, *split.held_out]
    assert len(set(found)) == len(found) == min(n, 24 + 48)
    assert len(split.calibration) == min(24, n / 2)
    assert {space.smallest, space.largest} & set(split.held_out)


# ---------------------------------------------------------------- store


def test_device_round_trip(tmp_path: Path) -> None:
    store = ProfileStore(tmp_path)
    device = make_device(SPACE, "pi4")
    assert store.save(device) == tmp_path / "pi4"
    assert store.names() == ["pi4"]
    back = store.load("pi4")
    assert back.profile == device.profile
    genomes = SPACE.sample(np.random.default_rng(0), 20)
    np.testing.assert_array_equal(back.table.predict(genomes, SPACE), device.table.predict(genomes, SPACE))
    assert store.profiles() == [device.profile]


def test_unknown_device_lists_those_known(tmp_path: Path) -> None:
    store = ProfileStore(tmp_path)
    with pytest.raises(ValueError, match=r"known: none.*`nas profile SPACE --device phone "):
        store.load("phone")
    store.save(make_device(SPACE, "pi4"))
    with pytest.raises(ValueError, match="known: pi4"):
        store.load("phone")


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", ".hidden"])
def test_names_that_cannot_be_folders_raise_an_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="must have a name"):
        ProfileStore(tmp_path).load(name)


def test_profiles_lie_in_nas_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAS_HOME", str(tmp_path))
    assert ProfileStore().directory == tmp_path / "profiles"
    monkeypatch.delenv("NAS_HOME")
    assert ProfileStore().directory.parent.name == "elastic-nas"


def test_missing_home_folder_names_the_variable_to_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_home(name: str) -> str:
        raise RuntimeError("could not determine the home directory")

    monkeypatch.delenv("NAS_HOME", raising=False)
    monkeypatch.setattr("platformdirs.user_data_dir", no_home)
    with pytest.raises(ValueError, match=r"set NAS_HOME .* or give --profiles DIR"):
        ProfileStore()
    assert ProfileStore(tmp_path).directory == tmp_path  # no question is asked
    monkeypatch.setenv("NAS_HOME", str(tmp_path))
    assert ProfileStore().directory == tmp_path / "profiles"


def test_users_profile_comes_before_a_shipped_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "SHIPPED", tmp_path / "shipped")
    ProfileStore(tmp_path / "shipped").save(make_device(SPACE, "pi4"))
    store = ProfileStore(tmp_path / "mine")
    assert store.load("pi4").profile.seconds == 1.0
    mine = make_device(SPACE, "pi4")
    store.save(replace(mine, profile=mine.profile.model_copy(update={"seconds": 2.0})))
    assert store.load("pi4").profile.seconds == 2.0
    assert store.names() == ["pi4"]


def test_damaged_profiles_are_refused(tmp_path: Path) -> None:
    store = ProfileStore(tmp_path)
    folder = store.save(make_device(SPACE, "pi4"))
    table = (folder / "table.csv").read_text()
    (folder / "table.csv").write_text("".join(table.splitlines(keepends=True)[:-3]))
    with pytest.raises(ValueError, match=r"table\.csv must have \d+ rows"):
        store.load("pi4")
    (folder / "table.csv").unlink()
    with pytest.raises(ValueError, match=r"cannot read .*table\.csv"):
        store.load("pi4")
    (folder / "profile.json").write_text('{"name": ')
    with pytest.raises(ValueError, match=r"profile\.json") as caught:
        store.load("pi4")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("difference", "remedy"), [(1, "update the toolkit"), (-1, "profile the device again")]
)
def test_profile_of_another_version_is_refused(tmp_path: Path, difference: int, remedy: str) -> None:
    store = ProfileStore(tmp_path)
    device = make_device(SPACE, "pi4")
    version = device.profile.schema_version + difference
    store.save(replace(device, profile=device.profile.model_copy(update={"schema_version": version})))
    with pytest.raises(ValueError, match=f"got {version}; {remedy}"):
        store.load("pi4")


def test_noise_above_four_percent_is_reported() -> None:
    profile = make_device(SPACE, "pi4").profile
    assert not profile.model_copy(update={"noise_floor": 0.04}).too_noisy
    assert profile.model_copy(update={"noise_floor": 0.041}).too_noisy
    assert '"too_noisy":false' in profile.model_dump_json()
