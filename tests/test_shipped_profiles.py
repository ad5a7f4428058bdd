"""The profiles that come with the package: whole, quietly measured, and good enough to be shown."""

import pytest

import search_spaces
from hw_profiles.doubts import doubts_about
from hw_profiles.store import SHIPPED, Device, read_device

FOLDERS = sorted(path.parent for path in SHIPPED.glob("*/profile.json"))


@pytest.fixture(params=FOLDERS, ids=lambda folder: folder.name)
def device(request: pytest.FixtureRequest) -> Device:
    return read_device(request.param)


@pytest.mark.parametrize("space", ["digits", "cifar", "ofa-mbv3-w1.0"])
def test_each_precision_and_number_of_threads_was_measured(space: str) -> None:
    keys = [profile.key for d in map(read_device, FOLDERS) if (profile := d.profile).space == space]
    assert {key.precision for key in keys} == {"fp32", "int8"}
    assert {key.threads for key in keys} == {1, 2}


def test_name_says_what_was_measured(device: Device) -> None:
    profile = device.profile
    assert profile.name.endswith(f"-{profile.space}-{profile.key.precision}-{profile.key.threads}t")


def test_no_doubts(device: Device) -> None:
    assert device.profile.noise_floor is not None
    assert not device.profile.too_noisy
    assert doubts_about(device.profile) == []
    assert device.profile.held_out.n >= 48


def test_says_where_it_comes_from(device: Device) -> None:
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
