"""Rules for replacing or extending an existing profile of the same name."""

from __future__ import annotations

import logging
from dataclasses import replace

import pandas as pd

from hw_profiles.connections.base import Description
from hw_profiles.device import Device
from hw_profiles.latency_models.block_timing import TimedBlock, timed_blocks
from hw_profiles.measuring.results import Results
from hw_profiles.mixing import block_precisions
from hw_profiles.run_settings import RunSettings
from search_spaces import Space
from search_spaces.tensors import MIXED

_log = logging.getLogger("nas")

_REMEDY = "choose another name, or replace the profile with --restart"


def settings_of(device: Device | None) -> RunSettings:
    """The run settings of a device; the defaults for a new device."""
    if device is None:
        return RunSettings()
    return RunSettings.model_validate(device.profile.key.model_dump(include=set(RunSettings.model_fields)))


def check_precision_of_space(space: Space, settings: RunSettings, chooses_precision: bool) -> None:
    """Check that a space with the precision as a choice gets a mixed profile.

    Args:
        space: the space without this choice.
        settings: how networks are run.
        chooses_precision: whether the space has the choice.

    Raises:
        ValueError: the space has the choice, but `settings` has a single precision.
    """
    if chooses_precision and settings.precision != MIXED:
        raise ValueError(
            f"the precision is a choice in the space {space.name!r}, so its profile must have the precision "
            f"{MIXED}, got {settings.precision}; add --precision {MIXED}, or leave out `bits`"
        )


def check_same_profile(device: Device, space: Space, settings: RunSettings) -> None:
    """Check that an existing profile has the same space and run settings as a new one.

    Raises:
        ValueError: the space or the settings differ; the message has the differences.
    """
    name = device.profile.name
    if space.name != device.profile.space and not space.has_blocks_of(device.space):
        raise ValueError(
            f"the device {name!r} was profiled for the space {device.profile.space!r}; choose another name "
            f"for {space.name!r}, such as {name}-{space.name}, or replace the profile with --restart"
        )
    earlier = settings_of(device)
    if settings.int8_for is None:  # the device decides
        settings = settings.model_copy(update={"int8_for": earlier.int8_for})
    old, new = earlier.model_dump(), settings.model_dump()
    differing = [field for field in old if old[field] != new[field]]
    if differing:
        measured, asked = (_listed({f: of[f] for f in differing}) for of in (old, new))
        raise ValueError(f"the profile {name!r} was measured with {measured}, got {asked}; {_REMEDY}")


def check_same_device(device: Device, description: Description) -> None:
    """Check that an existing profile was measured on the same hardware.

    Args:
        device: the existing profile.
        description: the description of the device that is measured.

    Raises:
        ValueError: the hardware differs.
    """
    other = device.profile.differences(description)
    if other:
        mine = {field: getattr(device.profile.hardware, field) for field in other}
        raise ValueError(
            f"the profile {device.profile.name!r} was measured on another device ({_listed(mine)}) than "
            f"this one ({_listed(other)}); {_REMEDY}"
        )


def blocks_to_add(device: Device, space: Space) -> dict[str, TimedBlock]:
    """The blocks by key that are missing in the table of a device, to be added to it.

    The result is empty if no block is missing, or if the device needs a new profile.
    """
    if not device.profile.n_blocks or not space.has_blocks_of(device.space):
        return {}
    return {
        key: timed
        for precision in block_precisions(device.profile.key.precision)
        for key, timed in timed_blocks(space, precision=precision).items()
        if key not in device.table.latency_ms
    }


def with_added(device: Device, blocks: pd.DataFrame, results: Results) -> Device:
    """A device with additional blocks in its table.

    Raises:
        ValueError: the additional blocks were measured with another version of the runtime.
    """
    key = device.profile.key
    version = results.device.get("version", key.version)
    if version != key.version:
        raise ValueError(
            f"the profile {device.profile.name!r} was measured with {key.runtime} {key.version}, but the "
            f"device now has {version}, whose latencies are not comparable; measure everything again with "
            f"--restart"
        )
    _log.info("%d blocks were added to the table of the device %r", len(blocks), device.profile.name)
    table = pd.concat([device.blocks, blocks], ignore_index=True)
    update = {"n_blocks": len(table), "seconds": device.profile.seconds + results.seconds}
    return replace(device, profile=device.profile.model_copy(update=update), blocks=table)


def _listed(values: dict[str, object]) -> str:
    return ", ".join(f"{field} {value}" for field, value in values.items())
