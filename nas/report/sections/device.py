"""The device and its profile."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from nas.report.data import ReportData
from nas.report.markup import (
    Html,
    cards,
    details,
    missing,
    number,
    percent,
    section,
    table,
    warning,
)
from nas.report.sections.commands import PROFILE


def device(data: ReportData) -> Html:
    """The device, the settings of its profile, and the prediction errors."""
    if not data.profile:
        return section("Device", missing("device profile", PROFILE))
    profile = data.profile
    quality = [
        ("predicted by", profile["latency_model"]),
        ("held-out MAPE", percent(profile["held_out"]["mape"], 2)),
        ("MACs alone", percent(profile["held_out_macs"]["mape"], 2)),
        ("noise floor", percent(profile["noise_floor"], 2)),
        ("split-half Spearman", number(profile["split_half_spearman"])),
        ("sentinel drift", percent(profile["sentinel_drift"], 2)),
        ("throttled trials", percent(profile["slow_share"], 1)),
        ("measured in", f"{profile['seconds']:.1f} s"),
    ]
    return section(
        "Device",
        *noise(data),
        cards(plain_fields(profile["hardware"])),
        cards(plain_fields(profile["key"])),
        cards(quality),
        details("Whole profile", table(("field", "value"), plain_fields(profile), numbers=False)),
    )


def noise(data: ReportData) -> list[Html]:
    """A warning if the machine was too noisy for reliable latencies."""
    if not data.profile or not data.profile["too_noisy"]:
        return []
    floor = percent(data.profile["noise_floor"])
    text = f"Machine too noisy: repeated measurements differ by {floor}; the latencies are unreliable."
    return [warning(text)]


def plain_fields(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Names and formatted values of all fields in nested mappings, except lists."""
    for key, value in values.items():
        name = prefix + key.replace("_", " ")
        if isinstance(value, Mapping):
            yield from plain_fields(value, f"{name} · ")
        elif isinstance(value, bool):
            yield name, "yes" if value else "no"
        elif isinstance(value, float):
            yield name, number(value, 4)
        elif isinstance(value, str | int):
            yield name, str(value)
