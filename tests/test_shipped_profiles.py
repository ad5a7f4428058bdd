"""The profiles that come with the package: whole, quietly measured, and good enough to be shown."""

import pytest

import search_spaces
from hw_profiles.doubts import doubts_about
from hw_profiles.store import SHIPPED, Device, read_device

FOLDERS = sorted(path.parent for path in SHIPPED.glob("*/profile.json"))


@pytest.fixture(params=FOLDERS, ids=lambda folder: folder.name)
def device(request: pytest.FixtureRequest) -> Device:
    return read_device(request.param)


def test_there_are_profiles_of_every_kind() -> None:
    """fp32 and INT8, with 1 and 2 threads, of a space for digits, one for CIFAR, and a published one."""
    kinds = {
        (d.profile.space, d.profile.key.precision, d.profile.key.threads) for d in map(read_device, FOLDERS)
    }
    spaces, precisions, threads = map(set, zip(*kinds, strict=True))
    assert spaces == {"digits", "cifar", "ofa-mbv3-w1.0"}
    assert (precisions, threads) == ({"fp32", "int8"}, {1, 2})
    assert len(kinds) == 12


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
