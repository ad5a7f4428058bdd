"""Builds a device profile from measurements: fits latency models to some subnets and tests them on others."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pandas as pd

from hw_profiles.connections.base import Connection
from hw_profiles.device import Device
from hw_profiles.latency_models.base import Linear, sums
from hw_profiles.latency_models.lookup_table import LatencyTable
from hw_profiles.latency_models.mixed_subnets import GROUPS, group_of, n_borders
from hw_profiles.latency_models.prediction_error import Latencies, PrecisionErrors, compare, line_slope
from hw_profiles.latency_models.robust_regression import IDENTITY, fit_affine
from hw_profiles.latency_models.selection import block_macs, select_model
from hw_profiles.measuring.results import Results
from hw_profiles.profile import DeviceProfile, Hardware
from hw_profiles.run_settings import DeviceKey, RunSettings
from nas.devices.profile_work import HELD_OUT, ProfileWork
from search_spaces.precision_space import base_space


def build_profile(
    work: ProfileWork, name: str, connection: Connection, settings: RunSettings, results: Results
) -> Device:
    """Select and fit a latency model on some subnets and test it on others.

    Args:
        work: the graphs that were timed.
        name: name of the device.
        connection: how the device was reached.
        settings: how networks were run.
        results: the measurements.
    """
    space, blocks = work.space, work.block_frame(results)
    calibration_ms = work.calibration_ms(results)
    measured, remeasured = (work.held_out_ms(results, nth) for nth in (0, 1))
    assert measured is not None, "the first pass is never missing"
    borders = work.border_frame(results)
    mixed = borders is not None
    calibration, held_out = ([space.blocks(a) for a in archs] for archs in (work.calibration, work.held_out))
    raw_ms = LatencyTable(name, blocks, IDENTITY, borders).block_ms if work.blocks else None
    selected = select_model(calibration, calibration_ms, raw_ms, mixed)
    predicted = selected.model.predict(held_out)
    profile = DeviceProfile(
        name=name,
        space=space.name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=results.seconds,
        check_seconds=sum(results.seconds_of.get(f"{HELD_OUT}{i}", 0.0) for i in range(len(work.held_out))),
        conditions=results.conditions,
        connection=connection,
        key=DeviceKey.model_validate(settings.model_dump() | results.device),
        hardware=Hardware.model_validate(results.device),
        n_blocks=len(blocks),
        n_calibration=len(calibration_ms),
        calibration=fit_affine(sums(calibration, raw_ms), calibration_ms) if raw_ms else None,
        latency_model=selected.name,
        cross_validated=dict(selected.errors),
        held_out=compare(predicted, measured),
        held_out_macs=compare(
            Linear(block_macs).fit(calibration, calibration_ms).predict(held_out), measured
        ),
        noise_floor=_noise_floor(measured, remeasured),
        precisions=_by_precision(work, predicted, measured, remeasured) if mixed else None,
        split_half_spearman=results.split_half_spearman,
        slow_share=results.slow_share,
        throttled_share=results.throttled_share,
        best_speed_probe_ms=results.best_speed_probe_ms,
        sentinel_drift=results.sentinel_drift,
    )
    fitted = pd.DataFrame(
        {"arch": [arch.to_json() for arch in work.calibration], "measured_latency_ms": calibration_ms}
    )
    tested = pd.DataFrame(
        {
            "arch_id": [arch.id for arch in work.held_out],
            "arch": [arch.to_json() for arch in work.held_out],
            "macs": [space.macs(arch) for arch in work.held_out],
            "predicted_latency_ms": predicted,
            "measured_latency_ms": measured,
            "remeasured_latency_ms": np.nan if remeasured is None else remeasured,
        }
    )
    return Device(profile, blocks, work.boundary_frame(results), fitted, tested, base_space(space), borders)


def _by_precision(
    work: ProfileWork, predicted: Latencies, measured: Latencies, remeasured: Latencies | None
) -> PrecisionErrors:
    """The errors on the held-out subnets of each group."""
    groups = np.array([group_of(work.space, arch) for arch in work.held_out])
    borders = np.array([n_borders(work.space, arch) for arch in work.held_out], dtype=np.float64)
    errors = {group: compare(predicted[groups == group], measured[groups == group]) for group in GROUPS}
    floors = {}
    if remeasured is not None:
        floors = {g: compare(remeasured[groups == g], measured[groups == g]).mape for g in GROUPS}
    return PrecisionErrors(
        **errors, noise_floor=floors, error_per_border=line_slope(borders, predicted / measured - 1)
    )


def _noise_floor(first: Latencies, second: Latencies | None) -> float | None:
    """MAPE between two passes; None without a second pass."""
    return None if second is None or len(first) == 0 else compare(second, first).mape
