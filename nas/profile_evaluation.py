"""From a device's measurements to its profile: fit on some subnets, judge on others."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hw_profiles.calibration import fit_affine
from hw_profiles.connections.base import Connection
from hw_profiles.errors import compare
from hw_profiles.key import DeviceKey, RunSettings
from hw_profiles.profile import DeviceProfile, Hardware
from hw_profiles.results import Results
from hw_profiles.store import Device
from hw_profiles.table import LatencyTable
from nas.profile_work import ProfileWork
from search_spaces import Arch, block_key


def evaluate(
    work: ProfileWork, name: str, connection: Connection, settings: RunSettings, results: Results
) -> Device:
    """Fit the calibration on some subnets and judge the table on others.

    Args:
        work: what was timed.
        name: of the device.
        connection: how it was reached.
        settings: how networks were run.
        results: what was measured.
    """
    space = work.space
    blocks = work.block_frame(results)

    def sums(archs: list[Arch]) -> NDArray[np.float64]:
        ms = dict(zip(blocks["block_key"], blocks["latency_ms"], strict=True))
        return np.array([sum(ms[block_key(block)] for block in space.blocks(arch)) for arch in archs])

    def macs(archs: list[Arch]) -> NDArray[np.float64]:
        return np.array([space.macs(arch) for arch in archs], dtype=np.float64)

    known = work.visits(results, "calibration", work.calibration, 0)
    measured, remeasured = (work.visits(results, "held_out", work.held_out, r) for r in (0, 1))
    assert known is not None, "the first round is never missing"
    assert measured is not None, "the first round is never missing"
    line = fit_affine(sums(work.calibration), known)
    macs_line = fit_affine(macs(work.calibration), known)
    predicted = LatencyTable(name, blocks, line).predict(space.encode(work.held_out), space)
    profile = DeviceProfile(
        name=name,
        space=space.name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=results.seconds,
        connection=connection,
        key=DeviceKey.model_validate(settings.model_dump() | results.device),
        hardware=Hardware.model_validate(results.device),
        n_blocks=len(blocks),
        n_calibration=len(known),
        calibration=line,
        held_out=compare(predicted, measured),
        held_out_macs=compare(macs_line(macs(work.held_out)), measured),
        noise_floor=None if remeasured is None else compare(remeasured, measured).mape,
        split_half_spearman=results.split_half_spearman,
        sentinel_drift=results.sentinel_drift,
    )
    held_out = pd.DataFrame(
        {
            "arch_id": [arch.id for arch in work.held_out],
            "arch": [arch.to_json() for arch in work.held_out],
            "macs": [space.macs(arch) for arch in work.held_out],
            "predicted_latency_ms": predicted,
            "measured_latency_ms": measured,
            "remeasured_latency_ms": np.nan if remeasured is None else remeasured,
        }
    )
    return Device(profile, blocks, work.edge_frame(results), held_out)
