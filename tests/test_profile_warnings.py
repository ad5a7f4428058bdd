from __future__ import annotations

import numpy as np
import pytest
from conftest import make_device

from hw_profiles.latency_models.prediction_error import compare
from hw_profiles.measuring.results import Conditions
from hw_profiles.profile import DeviceProfile
from hw_profiles.profile_warnings import order_warnings, profile_warnings
from search_spaces import Space

TRUTH = np.array([1.0, 2.0, 4.0])


@pytest.fixture
def profile(tiny: Space) -> DeviceProfile:
    """A good one: 2 % error on held-out subnets, MACs alone 10 %."""
    figures = {"held_out": compare(1.02 * TRUTH, TRUTH), "held_out_macs": compare(1.1 * TRUTH, TRUTH)}
    return make_device(tiny).profile.model_copy(update=figures)


def test_a_good_profile_raises_none(profile: DeviceProfile) -> None:
    assert profile_warnings(profile) == []


def test_worse_than_macs(profile: DeviceProfile) -> None:
    (warning,) = profile_warnings(profile.model_copy(update={"held_out": compare(1.2 * TRUTH, TRUTH)}))
    assert "worse than by MACs only: mean error 20.0%, by MACs 10.0% on 3 held-out subnets" in warning


def test_noise_above_four_percent(profile: DeviceProfile) -> None:
    (warning,) = profile_warnings(profile.model_copy(update={"noise_floor": 0.05}))
    assert warning.startswith("machine too noisy: ")
    assert "again differed by 5.0%; profile it again" in warning


def test_quota(profile: DeviceProfile) -> None:
    (warning,) = profile_warnings(profile.model_copy(update={"throttled_share": 0.25}))
    assert warning.startswith("a CPU quota stopped 25% of the measurements on the device ")


def test_other_processes(profile: DeviceProfile) -> None:
    # one thread is measured, so a load of 1 is that of measuring
    alone, shared = (profile.model_copy(update={"conditions": Conditions(load=(0.5, n))}) for n in (1.2, 2.1))
    assert profile_warnings(alone) == []
    (warning,) = profile_warnings(shared)
    assert "other processes were running on the device 'desk'" in warning
    assert "(load up to 2.1 at 1 threads)" in warning


def test_steps_of_a_front_below_the_error(profile: DeviceProfile) -> None:
    # steps of 1 %, 5 % and 1 %, in no order; the error is 2 %
    (warning,) = order_warnings(profile, np.array([1.07, 1.0, 1.01, 1.06]))
    assert warning.startswith("2 of the front's 3 steps in predicted latency are smaller")
    assert order_warnings(profile, TRUTH) == []
    assert order_warnings(profile, TRUTH[:1]) == []
