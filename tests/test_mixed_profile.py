"""Profiles of mixed precision: measured at once or merged from two, and the latencies that they give."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_profiling import DESCRIBED, SMALL, modelled_device, modelled_ms

import search_spaces
from hw_profiles.connections.local import Local
from hw_profiles.connections.offline_bundle import OfflineBundle
from hw_profiles.device import Device
from hw_profiles.device_files import BORDERS
from hw_profiles.latency_models.base import TABLE, sums
from hw_profiles.latency_models.mixed_subnets import group_of, mixed_split, n_borders
from hw_profiles.latency_models.selection import TABLE_BY_PART, parts, select_model
from hw_profiles.measuring.bundle import BundleContent, write_bundle
from hw_profiles.run_settings import RunSettings
from hw_profiles.store import ProfileStore
from nas.devices.device_graphs import TimedGraph, bundled
from nas.devices.profile_check import check_profile
from nas.devices.profiling import profile_device
from search_spaces import Space, block_key
from search_spaces.block_precision import in_precision
from search_spaces.precision_space import GRAINS, Grain, with_precision

SPACE = search_spaces.parse(
    SMALL.to_yaml().replace("hard_swish", "relu").replace("name: small", "name: relu")
)
MIXED = RunSettings(precision="mixed", int8_for="x86-vnni")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProfileStore]:
    """Profiles of one machine in fp32, INT8 and mixed precision."""
    store = ProfileStore(tmp_path_factory.mktemp("profiles"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Local, "measure", modelled_device())
        patch.setattr(Local, "describe", lambda self: DESCRIBED)
        profile_device(SPACE, "fp32", store, n_held_out=2)
        int8 = RunSettings(precision="int8", int8_for="x86-vnni")
        profile_device(SPACE, "int8", store, settings=int8, n_held_out=2)
        profile_device(SPACE, "mixed", store, settings=MIXED, n_held_out=9)
        yield store


@pytest.fixture
def mixed(store: ProfileStore) -> Device:
    return store.load("mixed")


def test_table_is_exact_on_an_additive_machine(mixed: Device) -> None:
    errors = mixed.profile.precisions
    assert errors is not None
    for record in (errors.fp32, errors.int8, errors.mixed):
        assert record.n == 3
        assert record.mape < 1e-6
    assert set(errors.noise_floor.values()) == {0.0}
    assert errors.error_per_border.low <= 1e-6
    assert errors.error_per_border.high >= -1e-6


def truth_ms(space: Space, genomes: np.ndarray, folder: Path) -> list[float]:
    """What the made-up machine takes for subnets of mixed precision."""
    archs = space.decode(genomes)
    graphs = [TimedGraph(f"m{i}", space.blocks(arch), 1, alone=True) for i, arch in enumerate(archs)]
    models, weights = bundled(graphs, MIXED, np.random.default_rng(0))
    write_bundle(folder, BundleContent(models, MIXED, weights))
    return [modelled_ms(folder / "models" / f"m{i}.onnx") for i in range(len(archs))]


@pytest.mark.parametrize("grain", GRAINS)
def test_serves_spaces_of_every_grain(mixed: Device, grain: Grain, tmp_path: Path) -> None:
    space = with_precision(SPACE, grain)
    genomes = space.sample(np.random.default_rng(0), 6)
    np.testing.assert_allclose(
        mixed.latency(space)(genomes), truth_ms(space, genomes, tmp_path / "truth"), rtol=1e-6
    )


def test_serves_the_space_without_precisions_and_other_images(
    mixed: Device, store: ProfileStore, tmp_path: Path
) -> None:
    genomes = SPACE.sample(np.random.default_rng(0), 5)
    np.testing.assert_allclose(
        mixed.latency(SPACE)(genomes), store.load("fp32").latency(SPACE)(genomes), rtol=1e-6
    )
    space = with_precision(SPACE.with_data(outputs=50, channels=3), "stage")
    genomes = space.sample(np.random.default_rng(0), 5)
    np.testing.assert_allclose(
        mixed.latency(space)(genomes), truth_ms(space, genomes, tmp_path / "truth"), rtol=1e-6
    )


def test_merged_profile_has_the_rows_of_both_and_the_same_borders(store: ProfileStore, mixed: Device) -> None:
    fp32, int8 = store.load("fp32"), store.load("int8")
    merged = profile_device(SPACE, "merged", store, merge=(fp32, int8), n_held_out=9)
    for block in SPACE.blocks(SPACE.largest):
        assert merged.table.block_ms(block) == fp32.table.block_ms(block)
        assert merged.table.block_ms(in_precision(block, "int8")) == int8.table.block_ms(block)
    assert merged.borders is not None
    assert mixed.borders is not None
    np.testing.assert_allclose(merged.borders["ms"], mixed.borders["ms"], rtol=1e-6)
    assert dict(merged.table.latency_ms) == pytest.approx(dict(mixed.table.latency_ms))
    assert store.load("merged").profile.precisions == merged.profile.precisions
    assert check_profile(SPACE, merged, n=3).verdict == "holds"


def test_profiles_that_cannot_be_merged(store: ProfileStore) -> None:
    fp32, int8 = store.load("fp32"), store.load("int8")
    with pytest.raises(ValueError, match=r"--merge needs a profile in fp32 and one in int8.*'int8' in int8"):
        profile_device(SPACE, "merged2", store, merge=(int8, fp32))
    key = int8.profile.key.model_copy(update={"threads": 2})
    other = replace(int8, profile=int8.profile.model_copy(update={"key": key}))
    with pytest.raises(ValueError, match=r"'fp32' with threads 1 and 'int8' with threads 2"):
        profile_device(SPACE, "merged2", store, merge=(fp32, other))
    with pytest.raises(ValueError, match=r"profiles of the space 'digits', got profiles of 'relu'"):
        profile_device(search_spaces.get("digits"), "merged2", store, merge=(fp32, int8))
    assert "merged2" not in store.names()


def test_profile_of_one_precision_refuses_a_space_that_chooses_it(store: ProfileStore) -> None:
    space = with_precision(SPACE, "from")
    with pytest.raises(ValueError, match=r"'fp32' is measured in fp32, .* --device fp32-mixed .*mixed`"):
        store.load("fp32").latency(space)
    with pytest.raises(ValueError, match=r"precision mixed, got fp32; add --precision mixed"):
        profile_device(space, "other", store)


def test_devices_that_cannot_mix_are_refused(
    store: ProfileStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = MIXED.model_copy(update={"provider": "CUDAExecutionProvider"})
    with pytest.raises(
        ValueError, match=r"one of \['CPUExecutionProvider'\], got CUDAExecutionProvider: it has no integer "
    ):
        profile_device(SPACE, "gpu", store, settings=gpu)
    with pytest.raises(ValueError, match="needs a device that can time single blocks"):
        profile_device(
            SPACE, "far", store, settings=MIXED, connection=OfflineBundle(out=tmp_path, whole=True)
        )
    assert {"gpu", "far"}.isdisjoint(store.names())


def test_border_after_a_block_that_ends_in_floating_point_is_free(mixed: Device) -> None:
    block = SPACE.blocks(SPACE.largest)[1]
    plain = mixed.table.block_ms(block)
    assert mixed.table.block_ms(in_precision(block, "fp32", "int8")) > plain
    assert mixed.table.block_ms(in_precision(block, "fp32", "int8", unrounded=True)) == plain
    crossed = in_precision(block, "int8", "fp32")
    assert in_precision(block, "int8", "fp32", unrounded=True) == crossed


def test_missing_borders_are_reported(mixed: Device, store: ProfileStore) -> None:
    space = with_precision(SPACE, "block")
    mixed = replace(mixed, profile=mixed.profile.model_copy(update={"latency_model": TABLE}))
    assert mixed.borders is not None
    without = replace(mixed, borders=mixed.borders.iloc[:0])
    uniform = [space.smallest, space.largest]
    np.testing.assert_array_equal(
        without.latency(space)(space.encode(uniform)), mixed.latency(space)(space.encode(uniform))
    )
    alternating = space.sample(np.random.default_rng(0), 20)
    with pytest.raises(ValueError, match=r"lacks \d+ blocks of the space 'relu' \(in .* convert "):
        without.latency(space)(alternating)
    (store.folder("mixed") / BORDERS).rename(store.folder("mixed") / "moved")
    try:
        with pytest.raises(ValueError, match=r"cannot read .*borders.csv"):
            store.load("mixed")
    finally:
        (store.folder("mixed") / "moved").rename(store.folder("mixed") / BORDERS)


def test_borders_have_a_factor_of_their_own(mixed: Device) -> None:
    space, rng = with_precision(SPACE, "block"), np.random.default_rng(0)
    networks = [space.blocks(arch) for arch in mixed_split(SPACE, rng, 24, 3).calibration]
    in_fp32, in_int8, border_ms = (sums(networks, part) for part in parts(mixed.table.block_ms))
    assert in_fp32 + in_int8 + border_ms == pytest.approx(sums(networks, mixed.table.block_ms))
    latency_ms = 1.3 * in_fp32 + 1.2 * in_int8 + 3 * border_ms + 0.01
    selected = select_model(networks, latency_ms, mixed.table.block_ms, mixed=True)
    assert selected.name == TABLE_BY_PART
    assert selected.model.predict(networks) == pytest.approx(latency_ms, rel=1e-4)


def test_subnets_have_runs_of_both_precisions() -> None:
    space, rng = with_precision(SPACE, "block"), np.random.default_rng(0)
    split = mixed_split(SPACE, rng, 12, 30)
    fitted = [group_of(space, arch) for arch in split.calibration]
    assert [fitted.count(name) for name in ("fp32", "int8", "mixed")] == [4, 4, 12]
    groups = [group_of(space, arch) for arch in split.held_out]
    assert [groups.count(name) for name in ("fp32", "int8", "mixed")] == [10, 10, 10]
    borders = [n_borders(space, arch) for arch in split.held_out]
    assert [n > 0 for n in borders] == [group == "mixed" for group in groups]
    assert max(borders) > 1
    assert not set(split.calibration) & set(split.held_out)
    for group in range(3):
        base = [space.base_arch(arch) for arch in split.held_out[10 * group : 10 * group + 2]]
        assert base == [SPACE.smallest, SPACE.largest]


def test_key_of_a_border_is_that_of_the_block_without_it_and_a_conversion(mixed: Device) -> None:
    block = SPACE.blocks(SPACE.largest)[2]
    crossed = in_precision(block, "int8", "fp32")
    assert block_key(crossed) not in mixed.table.latency_ms
    assert mixed.table.block_ms(crossed) > mixed.table.block_ms(in_precision(block, "int8"))
