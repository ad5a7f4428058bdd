"""Warnings about the quality of a latency profile."""

from __future__ import annotations

import numpy as np

from hw_profiles.latency_models.prediction_error import Latencies
from hw_profiles.profile import DeviceProfile


def profile_warnings(profile: DeviceProfile) -> list[str]:
    """A sentence for each problem of a profile; none for a good profile."""
    warnings = []
    error, baseline = profile.held_out, profile.held_out_macs
    if profile.too_noisy:
        warnings.append(
            f"machine too noisy: measuring the same subnets on {profile.name!r} again differed by "
            f"{profile.noise_floor:.1%}; profile it again when nothing else runs there"
        )
    elif profile.busy and profile.conditions.load:
        warnings.append(
            f"other processes were running on the device {profile.name!r} when it was measured (load up to "
            f"{profile.conditions.load[1]:.1f} at {profile.key.threads} threads); measuring again differed "
            f"by {profile.noise_floor or 0:.1%}"
        )
    if profile.throttled_share:
        warnings.append(
            f"a CPU quota stopped {profile.throttled_share:.0%} of the measurements on the device "
            f"{profile.name!r}: its latencies are valid for single runs, a continuous load takes longer"
        )
    if error.mape > baseline.mape:
        warnings.append(
            f"the latencies of the device {profile.name!r} are predicted worse than by MACs only: mean "
            f"error {error.mape:.1%}, by MACs {baseline.mape:.1%} on {error.n} held-out subnets"
        )
    return warnings


def order_warnings(profile: DeviceProfile, predicted_ms: Latencies) -> list[str]:
    """A sentence if neighbours on a front differ by less than the mean error of the predictions.

    Args:
        profile: the profile of the device.
        predicted_ms: predicted latencies of the subnets of a front, shape (n,).
    """
    ordered = np.sort(predicted_ms)
    close = int((np.diff(ordered) < profile.held_out.mape * ordered[:-1]).sum())
    if close == 0:
        return []
    return [
        f"{close} of the front's {len(ordered) - 1} steps in predicted latency are smaller than the mean "
        f"error of the predictions on {profile.name!r} ({profile.held_out.mape:.1%}); compare measured ones"
    ]
