"""What a new profile may do to the one that its name has already."""

from __future__ import annotations

import logging
from dataclasses import replace

import pandas as pd

from hw_profiles.connections.base import Description
from hw_profiles.device import Device
from hw_profiles.latency_models.block_timing import timed_blocks
from hw_profiles.measuring.results import Results
from hw_profiles.run_settings import RunSettings
from search_spaces import Space

_log = logging.getLogger("nas")

_REMEDY = "choose another name, or replace the profile with --restart"


def settings_of(device: Device | None) -> RunSettings:
    """How networks are run on a device; the defaults for a new one."""
    if device is None:
        return RunSettings()
    return RunSettings.model_validate(device.profile.key.model_dump(include=set(RunSettings.model_fields)))


def refuse_other_profile(device: Device, space: Space, settings: RunSettings) -> None:
    """Refuse to replace the profile of another space, or of networks that were run in another way.

    Raises:
        ValueError: the message says what differs.
    """
    name = device.profile.name
    if space.name != device.profile.space and not space.same_but_for_data(device.space):
        raise ValueError(
            f"the device {name!r} is measured for the space {device.profile.space!r}; choose another name "
            f"for {space.name!r}, such as {name}-{space.name}, or replace the profile with --restart"
        )
    there = settings_of(device)
    if settings.int8_for is None:  # as the device says
        settings = settings.model_copy(update={"int8_for": there.int8_for})
    known, wanted = there.model_dump(), settings.model_dump()
    differing = [field for field in known if known[field] != wanted[field]]
    if differing:
        measured, asked = (_listed({f: of[f] for f in differing}) for of in (known, wanted))
        raise ValueError(f"the profile {name!r} was measured with {measured}, got {asked}; {_REMEDY}")


def refuse_other_device(device: Device, told: Description) -> None:
    """Refuse to replace what another device measured.

    Args:
        device: the earlier profile.
        told: what the device says about itself that is to be measured.

    Raises:
        ValueError: it is another one.
    """
    other = device.profile.differences(told)
    if other:
        mine = {field: getattr(device.profile.hardware, field) for field in other}
        raise ValueError(
            f"the profile {device.profile.name!r} was measured on another device ({_listed(mine)}) than "
            f"this one ({_listed(other)}); {_REMEDY}"
        )


def blocks_to_add(device: Device, space: Space) -> list[str]:
    """Keys of the blocks that the table of a device lacks; none where all or nothing is to be measured."""
    if not device.profile.n_blocks or not space.same_but_for_data(device.space):
        return []
    return [key for key in timed_blocks(space) if key not in device.table.latency_ms]


def with_added(device: Device, blocks: pd.DataFrame, results: Results) -> Device:
    """A device with further rows in its table.

    Raises:
        ValueError: they were measured with another runtime.
    """
    key = device.profile.key
    version = results.device.get("version", key.version)
    if version != key.version:
        raise ValueError(
            f"the profile {device.profile.name!r} was measured with {key.runtime} {key.version}, the device "
            f"has {version} now: latencies of both are not comparable; measure all again with --restart"
        )
    _log.info("%d blocks were added to the table of the device %r", len(blocks), device.profile.name)
    table = pd.concat([device.blocks, blocks], ignore_index=True)
    update = {"n_blocks": len(table), "seconds": device.profile.seconds + results.seconds}
    return replace(device, profile=device.profile.model_copy(update=update), blocks=table)


def _listed(values: dict[str, object]) -> str:
    return ", ".join(f"{field} {value}" for field, value in values.items())
