import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

import search_spaces
from hw_profiles.connections.base import Description, NotMeasuredError
from hw_profiles.connections.local import Local
from hw_profiles.connections.offline_bundle import OfflineBundle
from hw_profiles.connections.process import Progress
from hw_profiles.connections.ssh import Ssh
from hw_profiles.device_files import BUNDLE
from hw_profiles.latency_models.base import TABLE
from hw_profiles.latency_models.prediction_error import compare
from hw_profiles.latency_models.selection import LAYERS, MACS, TABLE_AND_LAYERS
from hw_profiles.measuring.bundle import BundleContent, read_job, write_bundle
from hw_profiles.measuring.results import Results
from hw_profiles.measuring.runner.device_description import instruction_set
from hw_profiles.profile_warnings import profile_warnings
from hw_profiles.run_settings import RunSettings
from hw_profiles.store import ProfileStore
from nas.devices.device_graphs import TimedGraph, bundled
from nas.devices.profile_work import N_HELD_OUT
from nas.devices.profiling import profile_device
from predictors import agreement
from search_spaces import Arch, Space
from search_spaces.tensors import Precision

SMALL = search_spaces.parse(
    """
name: small
outputs: 4
channels: 1
resolutions: [8]
divisor: 4
stem: {width: [4], stride: 1}
stages:
  - {width: [4, 8], depth: [1, 2, 3], kernel: [3, 5], expand: [1, 2], stride: 1}
head: {width: [8]}
"""
)


DESCRIBED: Description = {"cpu": "c", "machine": "m", "version": "1"}


def modelled_ms(path: Path) -> float:
    """Latency on a made-up machine: a call costs 5 µs, a node 2 µs, a weight 10 ns.

    The scales per channel of a border between precisions cost nothing.
    """
    graph = onnx.load(path, load_external_data=False).graph
    weights: int = sum(
        math.prod(constant.dims) for constant in graph.initializer if not constant.name.endswith("_border")
    )
    return 0.005 + 0.002 * len(graph.node) + 1e-5 * weights


def modelled_device(noise: float = 0.0) -> Callable[[Local, Path, Progress], Results]:
    """Stands in for `Local.measure`: what the runner would tell on a machine with relative noise."""
    rng = np.random.default_rng(0)

    def measure(self: Local, bundle: Path, progress: Progress) -> Results:
        job = read_job(bundle)
        trials = {
            model.id: [
                modelled_ms(bundle / model.file) * (1 + noise * rng.uniform(-1, 1))
                for _ in range(model.n_trials)
            ]
            for model in job.models
        }
        progress(1, 1)
        results = Results.of_tool(job, trials, "onnxruntime", 1.0)
        return results.model_copy(update={"device": results.device | DESCRIBED})

    return measure


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ProfileStore:
    monkeypatch.setattr(Local, "measure", modelled_device())
    described = DESCRIBED | {"instruction_set": instruction_set()}
    monkeypatch.setattr(Local, "describe", lambda self: described)
    return ProfileStore(tmp_path)


def test_table_is_exact_on_an_additive_machine(store: ProfileStore) -> None:
    device = profile_device(SMALL, "modelled", store)
    profile = device.profile
    assert profile.held_out.n == N_HELD_OUT
    assert profile.held_out.mape < 1e-6
    assert profile.held_out.kendall_tau > 0.99  # rounding may part equal latencies
    assert profile.noise_floor == 0
    assert profile.held_out_macs.mape > 0.01  # nodes cost, and MACs do not see them
    assert profile.latency_model == TABLE
    assert profile.calibration is not None
    assert profile.calibration.slope == pytest.approx(1.0, abs=1e-6)
    # stem and head keep half of the call's 5 µs each: the one call of the whole network, nothing is left over
    assert profile.calibration.intercept_ms == pytest.approx(0.0, abs=1e-6)
    assert store.load("modelled").profile == profile
    assert not (store.folder("modelled") / BUNDLE).exists()
    genomes = SMALL.encode([SMALL.smallest, SMALL.largest])
    predicted = device.table.predict(genomes, SMALL)
    np.testing.assert_allclose(predicted, device.held_out["measured_latency_ms"].head(2), rtol=1e-6)


def test_a_device_without_a_latency_table_is_fitted_to_whole_networks(
    store: ProfileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Local, "supports_block_timing", False)
    device = profile_device(SMALL, "modelled", store, n_held_out=20)
    profile = device.profile
    assert (profile.latency_model, profile.n_blocks, profile.calibration) == (LAYERS, 0, None)
    assert set(profile.cross_validated) == {LAYERS, MACS}
    assert profile.held_out.mape < 0.3 * profile.held_out_macs.mape
    again = store.load("modelled").latency(SMALL)(SMALL.encode([SMALL.smallest, SMALL.largest]))
    np.testing.assert_allclose(again, device.held_out["predicted_latency_ms"].head(2), rtol=1e-6)


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_latency_tables_of_other_precisions_are_as_accurate(
    store: ProfileStore, precision: Precision
) -> None:
    settings = RunSettings(precision=precision, int8_for="arm" if precision == "int8" else None)
    profile = profile_device(SMALL, "modelled", store, settings=settings, n_held_out=10).profile
    # conversions at the boundaries of blocks are nodes; what the probes have of them is subtracted
    assert profile.held_out.mape < 1e-6
    assert profile.held_out.n == 10
    assert (profile.key.precision, profile.key.int8_for) == (precision, settings.int8_for)


def test_graphs_are_timed_in_their_precision(store: ProfileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(self: Local, bundle: Path, progress: Progress) -> Results:
        job = read_job(bundle)
        assert job.int8_for == instruction_set()  # from the description of this machine
        for model in job.models:
            graph = onnx.load(bundle / model.file, load_external_data=False).graph
            assert "QuantizeLinear" in {node.op_type for node in graph.node}
        raise ValueError("seen")

    monkeypatch.setattr(Local, "measure", stop)
    with pytest.raises(ValueError, match="seen"):
        profile_device(SMALL, "here", store, settings=RunSettings(precision="int8"), n_held_out=10)


@pytest.mark.slow
def test_int8_on_another_processor_than_it_was_written_for(
    store: ProfileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure = modelled_device()

    def on_arm(self: Local, bundle: Path, progress: Progress) -> Results:
        results = measure(self, bundle, progress)
        return results.model_copy(update={"device": results.device | {"instruction_set": "arm"}})

    monkeypatch.setattr(Local, "measure", on_arm)
    settings = RunSettings(precision="int8", int8_for="x86")
    with pytest.raises(ValueError, match=r"written for x86, but the device is arm: .* --int8-for arm"):
        profile_device(SMALL, "here", store, settings=settings, n_held_out=10)
    assert store.names() == []
    with pytest.raises(ValueError, match=r"one of .*'arm'.*, got riscv64"):
        profile_device(SMALL, "here", store, settings=RunSettings(precision="int8", int8_for="riscv64"))


def test_noise_shows_in_the_profile(store: ProfileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Local, "measure", modelled_device(noise=0.15))
    profile = profile_device(SMALL, "noisy", store).profile
    # two draws from ±15 % differ by 10 % in the mean; with 48 subnets that is above 4 % beyond doubt
    assert profile.too_noisy


def test_interrupted_profile_goes_on(store: ProfileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(self: Local, folder: Path, progress: Progress) -> Results:
        (folder / "trials.jsonl").write_text("finished\n")
        raise KeyboardInterrupt

    monkeypatch.setattr(Local, "measure", interrupt)
    with pytest.raises(KeyboardInterrupt):
        profile_device(SMALL, "here", store)
    assert store.names() == []
    found: list[bool] = []

    def watch(self: Local, folder: Path, progress: Progress) -> Results:
        found.append((folder / "trials.jsonl").exists())
        return modelled_device()(self, folder, progress)

    monkeypatch.setattr(Local, "measure", watch)
    profile_device(SMALL, "here", store)
    assert found == [True]  # the same bundle, with its trials
    monkeypatch.setattr(Local, "measure", interrupt)
    with pytest.raises(KeyboardInterrupt):
        profile_device(SMALL, "here", store)
    assert store.load("here").profile.space == "small"  # the old profile stays until the new one is whole
    monkeypatch.setattr(Local, "measure", watch)
    profile_device(SMALL, "here", store, resume=False)
    assert found == [True, False]


def test_name_of_a_device_measured_for_another_space(store: ProfileStore) -> None:
    profile_device(SMALL, "here", store)
    with pytest.raises(ValueError, match=r"was profiled for the space 'small'; .* such as here-digits"):
        profile_device(search_spaces.get("digits"), "here", store)


def test_a_profile_of_another_device_or_other_settings_is_not_replaced(
    store: ProfileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = profile_device(SMALL, "here", store, n_held_out=10).profile
    with pytest.raises(ValueError, match=r"'here' was measured with threads 1, got threads 2; .*--restart"):
        profile_device(SMALL, "here", store, settings=RunSettings(threads=2))
    monkeypatch.setattr(Local, "describe", lambda self: DESCRIBED | {"cpu": "d"})
    with pytest.raises(ValueError, match=r"measured on another device \(cpu c\) than this one \(cpu d\)"):
        profile_device(SMALL, "here", store)
    assert store.load("here").profile == before
    assert not (store.folder("here") / BUNDLE).exists()
    settings = RunSettings(threads=2)
    profile_device(SMALL, "here", store, settings=settings, n_held_out=10, resume=False)
    assert store.load("here").profile.key.threads == 2
    # without settings those of the profile count
    monkeypatch.setattr(Local, "describe", lambda self: DESCRIBED)
    assert profile_device(SMALL, "here", store, n_held_out=10).profile.key.threads == 2


def test_more_threads_than_cores_are_refused(store: ProfileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Local, "describe", lambda self: DESCRIBED | {"usable_cores": 2})
    with pytest.raises(ValueError, match=r"threads must be at most 2, .* got 64"):
        profile_device(SMALL, "here", store, settings=RunSettings(threads=64))
    assert (
        profile_device(
            SMALL, "here", store, settings=RunSettings(threads=2), n_held_out=10
        ).profile.key.threads
        == 2
    )


def truth_ms(space: Space, archs: Sequence[Arch], folder: Path) -> list[float]:
    """What the made-up machine takes for subnets."""
    graphs = [TimedGraph(arch.id, space.blocks(arch), 1, alone=True) for arch in archs]
    models, weights = bundled(graphs, RunSettings(), np.random.default_rng(0))
    write_bundle(folder, BundleContent(models, RunSettings(), weights))
    return [modelled_ms(folder / "models" / f"{arch.id}.onnx") for arch in archs]


@pytest.mark.parametrize("model", [TABLE, TABLE_AND_LAYERS])
def test_a_profile_serves_other_images(
    store: ProfileStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    """On a machine whose head takes the longer the more classes there are, by a straight line."""
    device = profile_device(SMALL, "here", store, n_held_out=10)
    update = {"latency_model": model}
    device = replace(device, profile=device.profile.model_copy(update=update))
    archs = [SMALL.smallest, SMALL.largest]
    for classes, channels in ((3, 1), (10, 3), (250, 1), (250, 3)):
        space = SMALL.with_data(outputs=classes, channels=channels)
        predicted = device.latency(space)(space.encode(archs))
        truth = truth_ms(space, archs, tmp_path / f"{classes}-{channels}")
        np.testing.assert_allclose(predicted, truth, rtol=1e-6 if model == TABLE else 0.01)
    many = SMALL.with_data(outputs=5000, channels=1)
    with pytest.raises(ValueError, match=r"lacks 2 blocks .*linear 8>5000.* measure them in addition with"):
        device.latency(many)


def test_lacking_blocks_are_added(store: ProfileStore, tmp_path: Path) -> None:
    first = profile_device(SMALL, "here", store, n_held_out=10)
    many = SMALL.with_data(outputs=5000, channels=1)
    stick, back = tmp_path / "stick", tmp_path / "results.json"
    with pytest.raises(NotMeasuredError):
        profile_device(many, "here", store, connection=OfflineBundle(out=stick))
    # two heads, after 4 and after 8 channels; one and three probes of the boundary before each; the sentinel
    assert len(read_job(stick).models) == 7
    back.write_text(modelled_device()(Local(), stick, lambda done, total: None).model_dump_json())
    added = profile_device(many, "here", store, connection=OfflineBundle(results=back))
    assert added.profile.n_blocks == first.profile.n_blocks + 2
    assert added.profile.held_out == first.profile.held_out
    archs = [SMALL.smallest, SMALL.largest]
    predicted = store.load("here").latency(many)(many.encode(archs))
    np.testing.assert_allclose(predicted, truth_ms(many, archs, tmp_path / "truth"), rtol=1e-6)
    old = SMALL.encode(archs)
    np.testing.assert_array_equal(store.load("here").latency(SMALL)(old), first.latency(SMALL)(old))


def carried_there_and_back(store: ProfileStore, stick: Path) -> Results:
    """Writes the bundle of `SMALL` to carry, and measures it on the made-up machine."""
    with pytest.raises(NotMeasuredError, match="ready to be copied"):
        profile_device(SMALL, "far", store, connection=OfflineBundle(out=stick), seed=3)
    assert store.names() == []
    return modelled_device()(Local(), stick, lambda done, total: None)


def test_device_that_is_measured_by_hand(store: ProfileStore, tmp_path: Path) -> None:
    stick = tmp_path / "stick"
    (tmp_path / "results.json").write_text(carried_there_and_back(store, stick).model_dump_json())
    back = OfflineBundle(results=tmp_path / "results.json")
    device = profile_device(SMALL, "far", store, connection=back)  # the bundle knows its seed
    assert device.profile.held_out.mape < 1e-6
    assert store.load("far").profile.connection == OfflineBundle()
    with pytest.raises(ValueError, match="the device 'far' has no unfinished bundle"):
        profile_device(SMALL, "far", store, connection=back)


def test_whole_subnets_in_a_csv(store: ProfileStore, tmp_path: Path) -> None:
    results = carried_there_and_back(store, tmp_path / "stick")
    rows = [
        f"{name},{figures[0].latency_ms}" for name, figures in results.alone.items() if name[-1].isdigit()
    ]
    whole = [row for row in rows if row.startswith(("calibration", "held_out"))]
    (tmp_path / "results.csv").write_text("\n".join(["model_id,latency_ms", *whole]))
    back = OfflineBundle(results=tmp_path / "results.csv")
    profile = profile_device(SMALL, "far", store, connection=back).profile
    assert profile.n_blocks == 0
    assert profile.latency_model != "table"
    assert profile.noise_floor is None  # each was measured once
    assert profile.held_out.spearman > 0.8


def test_results_of_another_space(store: ProfileStore, tmp_path: Path) -> None:
    carried_there_and_back(store, tmp_path / "stick")
    with pytest.raises(ValueError, match="is of the space 'small', not 'digits'"):
        profile_device(search_spaces.get("digits"), "far", store, connection=OfflineBundle(results=tmp_path))


def test_device_is_reached_through_the_connection_in_its_profile(
    store: ProfileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Ssh, "describe", lambda self: {})
    monkeypatch.setattr(Ssh, "measure", modelled_device())
    profile_device(SMALL, "pi", store, connection=Ssh(host="pi@box"))
    monkeypatch.delattr(Local, "measure")
    assert profile_device(SMALL, "pi", store).profile.connection == Ssh(host="pi@box")


@pytest.mark.parametrize("supports_block_timing", [True, False])
@pytest.mark.parametrize(("kernel", "expand", "n"), [([3], [1], 1), ([3, 5], [1], 2), ([3, 5], [1, 2, 3], 6)])
def test_all_subnets_of_a_small_space_are_measured(
    store: ProfileStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kernel: list[int],
    expand: list[int],
    n: int,
    supports_block_timing: bool,
) -> None:
    monkeypatch.setattr(Local, "supports_block_timing", supports_block_timing)
    config = SMALL.config.model_dump()
    config["stages"] = [
        config["stages"][0] | {"width": [4], "depth": [1], "kernel": kernel, "expand": expand}
    ]
    few = search_spaces.parse(json.dumps(config | {"name": "few"}))
    device = profile_device(few, "here", store)
    assert few.n_subnets == device.profile.n_calibration + device.profile.held_out.n == n
    assert store.load("here").profile.model_dump_json() == device.profile.model_dump_json()
    archs = few.decode(few.all_subnets())
    predicted = store.load("here").latency(few)(few.encode(archs))
    # one subnet measured: its latency is met; of a table, those of all
    exact = (
        archs if supports_block_timing or n == 1 else [Arch.from_json(text) for text in device.fitted["arch"]]
    )
    known = dict(zip([arch.id for arch in archs], predicted, strict=True))
    truth = truth_ms(few, exact, tmp_path / "truth")
    np.testing.assert_allclose([known[arch.id] for arch in exact], truth, rtol=0.03)


def test_folder_that_cannot_be_written(store: ProfileStore, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="cannot write profiles to"):
        profile_device(SMALL, "here", ProfileStore(tmp_path / "file"))


@pytest.mark.slow
@pytest.mark.measures
def test_digits_on_this_machine(tmp_path: Path) -> None:
    device = profile_device(search_spaces.get("digits"), "here", ProfileStore(tmp_path))
    profile = device.profile
    assert profile.noise_floor is not None
    if profile.too_noisy or profile.busy:
        pytest.skip(f"nothing is known of the table: {profile_warnings(profile)[0]}")
    assert profile.held_out.mape <= max(3 * profile.noise_floor, 0.03)
    # A table cannot be asked to order subnets more exactly than a second measurement of them does. Kendall's
    # tau of 48 subnets has a standard error of about 0.01, so the target must be within its interval.
    predicted, measured, again = (
        device.held_out[f"{name}_latency_ms"].to_numpy() for name in ("predicted", "measured", "remeasured")
    )
    table = agreement(predicted, measured, np.random.default_rng(0))
    assert table.high >= min(0.95, compare(again, measured).kendall_tau)
    assert profile.held_out.mape < profile.held_out_macs.mape
