"""The profiles that come with the package: whole, quietly measured, and good enough to be shown."""

from pathlib import Path

import numpy as np
import pytest

import search_spaces
from hw_profiles.device import Device
from hw_profiles.device_files import read_device
from hw_profiles.latency_models.prediction_error import compare
from hw_profiles.latency_models.robust_regression import fit_affine
from hw_profiles.profile_warnings import profile_warnings
from hw_profiles.store import SHIPPED, ProfileStore

FOLDERS = sorted(path.parent for path in SHIPPED.glob("*/profile.json"))
SLOW = ("ofa-mbv3-w1.0-fp32-2t", "ofa-mbv3-w1.0-int8-1t", "ofa-mbv3-w1.0-int8-2t")


@pytest.fixture(
    params=[
        pytest.param(path, id=path.name, marks=pytest.mark.slow if path.name.endswith(SLOW) else [])
        for path in FOLDERS
    ]
)
def device(request: pytest.FixtureRequest) -> Device:
    return read_device(request.param)


@pytest.mark.parametrize("space", ["digits", "cifar", "ofa-mbv3-w1.0"])
def test_each_precision_and_number_of_threads_was_measured(space: str) -> None:
    keys = [profile.key for d in map(read_device, FOLDERS) if (profile := d.profile).space == space]
    assert {key.precision for key in keys} == {"fp32", "int8"}
    assert {key.threads for key in keys} == {1, 2}


def test_name_describes_the_measurement(device: Device) -> None:
    profile = device.profile
    assert profile.name.endswith(f"-{profile.space}-{profile.key.precision}-{profile.key.threads}t")


def test_accurate_profile_has_no_warnings(device: Device) -> None:
    assert device.profile.noise_floor is not None
    assert not device.profile.too_noisy
    assert profile_warnings(device.profile) == []
    assert device.profile.held_out.n >= 48


def test_description_has_the_source(device: Device) -> None:
    profile = device.profile
    assert profile.hardware.cpu
    assert profile.hardware.os
    assert profile.key.runtime == "onnxruntime"
    assert profile.key.version


def test_predicts_what_it_has_recorded(device: Device) -> None:
    """The table of today's space gives the predictions that were judged when it was measured."""
    space = search_spaces.get(device.profile.space)
    archs = [search_spaces.Arch.from_json(text) for text in device.held_out["arch"]]
    predicted = device.latency(space)(space.encode(archs))
    assert predicted == pytest.approx(device.held_out["predicted_latency_ms"].to_numpy(), rel=1e-6)


def test_states_the_errors_of_subnets_that_were_not_fitted_to(device: Device) -> None:
    assert not {*device.fitted["arch"]} & {*device.held_out["arch"]}
    profile, held_out = device.profile, device.held_out
    first, second = (held_out[f"{name}_latency_ms"].to_numpy() for name in ("measured", "remeasured"))
    predicted = held_out["predicted_latency_ms"].to_numpy()
    assert compare(predicted, first).model_dump() == pytest.approx(profile.held_out.model_dump())
    assert compare(second, first).mape == pytest.approx(profile.noise_floor)
    fitted = [device.space.macs(search_spaces.Arch.from_json(text)) for text in device.fitted["arch"]]
    line = fit_affine(np.array(fitted, dtype=np.float64), device.fitted["measured_latency_ms"].to_numpy())
    by_macs = line(held_out["macs"].to_numpy(dtype=np.float64))
    assert compare(by_macs, first).mape == pytest.approx(profile.held_out_macs.mape)


@pytest.mark.parametrize(("classes", "channels"), [(3, 3), (4, 3), (12, 3)])
def test_serves_runs_of_other_classes(classes: int, channels: int) -> None:
    """A few weights more or less in the classifier are below the noise floor."""
    device = read_device(SHIPPED / "epyc-zen4-2core-cifar-fp32-1t")
    space = search_spaces.get("cifar").with_data(outputs=classes, channels=channels)
    genomes = space.sample(np.random.default_rng(0), 5)
    np.testing.assert_array_equal(device.latency(space)(genomes), device.latency(device.space)(genomes))


@pytest.mark.parametrize(("classes", "channels"), [(250, 3), (4, 1)])
def test_other_images_are_refused_with_the_command(
    classes: int, channels: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hw_profiles.store.SHIPPED", SHIPPED)
    store = ProfileStore(tmp_path)
    space = search_spaces.get("cifar").with_data(outputs=classes, channels=channels)
    command = f"nas profile cifar --device this-machine --profiles {tmp_path}"
    with pytest.raises(ValueError, match=f"lacks . blocks of the space 'cifar' .*`{command}`"):
        store.load("epyc-zen4-2core-cifar-fp32-1t").latency(space)
