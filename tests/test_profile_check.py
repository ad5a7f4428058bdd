from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from conftest import make_device

import search_spaces
from hw_profiles.device import Device
from hw_profiles.latency_models.prediction_error import Latencies, compare
from nas.devices import profile_check
from nas.devices.profile_check import CheckRecord, check_profile
from search_spaces import Arch, Space

N_HELD_OUT = 20


@pytest.fixture
def device(tiny: Space) -> Device:
    """With a table that is 1 % wrong on its held-out subnets."""
    made = make_device(tiny)
    archs = tiny.decode(tiny.sample(np.random.default_rng(1), N_HELD_OUT))
    predicted = made.latency(tiny)(tiny.encode(archs))
    held_out = pd.DataFrame({"arch": [a.to_json() for a in archs], "measured_latency_ms": predicted})
    profile = made.profile.model_copy(update={"held_out": compare(1.01 * predicted, predicted)})
    return replace(made, held_out=held_out, profile=profile)


def check(
    monkeypatch: pytest.MonkeyPatch, tiny: Space, device: Device, passes: Sequence[float]
) -> CheckRecord:
    """A check on a machine where each pass takes so many times what the table says."""

    def measure(
        space: Space, archs: Sequence[Arch], device: Device, progress: object
    ) -> tuple[Latencies, ...]:
        assert len(set(archs)) == profile_check.N_CHECKED
        return tuple(factor * device.latency(space)(space.encode(archs)) for factor in passes)

    monkeypatch.setattr(profile_check, "measure_twice", measure)
    return check_profile(tiny, device)


def test_it_holds(monkeypatch: pytest.MonkeyPatch, tiny: Space, device: Device) -> None:
    record = check(monkeypatch, tiny, device, [1.015, 1.02])
    assert record.verdict == "holds"
    assert record.now.n == profile_check.N_CHECKED
    assert record.now.bias == pytest.approx(1 / 1.015 - 1)
    assert record.noise_floor == pytest.approx(1.02 / 1.015 - 1)
    assert record.now.kendall_tau == pytest.approx(1)
    assert (
        "desk: holds; mean error 1.5% on 8 subnets measured again (the profile says 1.0%)" in record.sentence
    )


def test_a_machine_that_became_slower(monkeypatch: pytest.MonkeyPatch, tiny: Space, device: Device) -> None:
    record = check(monkeypatch, tiny, device, [1.1, 1.1])
    assert record.verdict == "holds no longer"
    assert record.now.bias == pytest.approx(1 / 1.1 - 1)
    assert record.sentence.endswith("; profile the device again")


def test_noise_is_distinguished_from_a_change(
    monkeypatch: pytest.MonkeyPatch, tiny: Space, device: Device
) -> None:
    assert check(monkeypatch, tiny, device, [1.0, 1.05]).verdict == "machine too noisy"


def test_another_space(tiny: Space, device: Device) -> None:
    with pytest.raises(ValueError, match="the device 'desk' was profiled for 'tiny', not 'digits'"):
        check_profile(search_spaces.get("digits"), device)
