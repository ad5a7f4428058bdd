"""Checks a device profile by measuring a few of its held-out subnets again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np
from pydantic import BaseModel

from hw_profiles.device import Device
from hw_profiles.latency_models.prediction_error import ErrorRecord, Latencies, compare
from hw_profiles.measuring import session
from hw_profiles.measuring.bundle import BundleContent, write_bundle
from hw_profiles.profile import MAX_NOISE_FLOOR
from nas.devices.device_graphs import TimedGraph, bundled
from nas.progress import Progress, silent
from search_spaces import Arch, Space
from search_spaces.precision_space import base_space

N_CHECKED = 8
MAX_RATIO = 2.0
"""A profile is valid while the error of its predictions is at most this many times the recorded error."""


class CheckRecord(BaseModel, frozen=True):
    """The result of a check; errors are fractions."""

    device: str
    verdict: Literal["holds", "holds no longer", "machine too noisy"]
    now: ErrorRecord
    """Errors of the predictions against the new measurements."""
    promised_mape: float
    """MAPE of the predictions on all held-out subnets, as recorded in the profile."""
    noise_floor: float
    """MAPE between two new passes over these subnets."""

    @property
    def sentence(self) -> str:
        """The verdict with its figures and the remedy."""
        figures = (
            f"mean error {self.now.mape:.1%} on {self.now.n} subnets measured again (the profile says "
            f"{self.promised_mape:.1%}), bias {self.now.bias:+.1%}, Kendall tau {self.now.kendall_tau:.2f}, "
            f"measuring twice differs by {self.noise_floor:.1%}"
        )
        return f"{self.device}: {self.verdict}; {figures}{_REMEDY[self.verdict]}"


_REMEDY = {
    "holds": "",
    "holds no longer": "; profile the device again",
    "machine too noisy": "; check again when nothing else runs there",
}


def check_profile(
    space: Space, device: Device, *, n: int = N_CHECKED, progress: Progress = silent
) -> CheckRecord:
    """Measure some subnets twice and compare them with the predictions.

    Args:
        space: the space for which the device was profiled.
        device: the device; the connection of its profile is used.
        n: number of held-out subnets to measure, evenly spread from the fastest to the slowest one.
        progress: called after each measurement.

    Raises:
        ValueError: the profile is for another space or has no held-out subnets of these resolutions, or the
            device cannot be reached or is not the device of the profile.
    """
    profile, space = device.profile, base_space(space)
    if not space.has_blocks_of(device.space):
        raise ValueError(
            f"the device {profile.name!r} was profiled for {profile.space!r}, not {space.name!r}"
        )
    data = space.config  # the held-out subnets are of the profiled space, whose depths may skip other blocks
    space = device.space.with_data(
        outputs=data.outputs, channels=data.channels, resolutions=space.resolutions
    )
    sizes = np.array([Arch.from_json(text)["resolution"] for text in device.held_out["arch"]])
    ordered = device.held_out[np.isin(sizes, space.resolutions)].sort_values("measured_latency_ms")
    if ordered.empty:
        raise ValueError(
            f"the profile {profile.name!r} has no held-out subnets of these resolutions to measure again"
        )
    places = np.linspace(0, len(ordered) - 1, min(n, len(ordered))).round().astype(int)
    archs = [Arch.from_json(text) for text in ordered["arch"].iloc[places]]
    space = device.subnets_of(space)
    first, second = measure_twice(space, archs, device, progress)
    now = compare(device.latency(space)(space.encode(archs)), first)
    floor = compare(second, first).mape
    allowed = MAX_RATIO * max(profile.held_out.mape, profile.noise_floor or 0.0, floor)
    return CheckRecord(
        device=profile.name,
        verdict=_verdict(now.mape, allowed, floor),
        now=now,
        promised_mape=profile.held_out.mape,
        noise_floor=floor,
    )


def measure_twice(
    space: Space, archs: Sequence[Arch], device: Device, progress: Progress = silent
) -> tuple[Latencies, Latencies]:
    """Latencies of subnets on a device in two interleaved passes, each subnet alone in a fresh process.

    Raises:
        ValueError: the device cannot be reached, is not the device of the profile, or measured a subnet only
            once.
    """
    profile = device.profile
    graphs = [TimedGraph(arch.id, space.blocks(arch), 2, alone=True) for arch in archs]
    models, weights = bundled(graphs, profile.key, np.random.default_rng(0))
    with TemporaryDirectory() as folder:
        bundle = Path(folder) / "bundle"
        content = BundleContent(
            models, profile.key, weights, space=space.name, best_speed_probe_ms=profile.best_speed_probe_ms
        )
        write_bundle(bundle, content)
        results = session.measure(
            profile.connection, bundle, lambda done, total: progress("measure again", done, total)
        )
    profile.check_same_device(results.device)
    first, second = (results.alone_ms((arch.id for arch in archs), nth, passes=2) for nth in (0, 1))
    assert first is not None, "a model is measured once at least"
    if second is None:
        raise ValueError(
            f"the device {profile.name!r} must measure each subnet twice, but measured some only once"
        )
    return first, second


def _verdict(
    mape: float, allowed: float, floor: float
) -> Literal["holds", "holds no longer", "machine too noisy"]:
    if floor > MAX_NOISE_FLOOR:
        return "machine too noisy"
    return "holds" if mape <= allowed else "holds no longer"
