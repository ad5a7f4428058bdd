"""The space of a search: the space of the run, or the same space with the precision as a choice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import pandas as pd

from hw_profiles.command import mixed_profile_command
from hw_profiles.device import Device
from search_spaces import Space
from search_spaces.precision_space import Grain, PrecisionSpace, with_precision
from search_spaces.tensors import FP32, MIXED

DEFAULT_GRAIN: Grain = "from"
BITS = "bits"
"""Key of the grain in the record of a search."""


def space_to_search(space: Space, devices: Sequence[Device], grain: Grain | None) -> Space:
    """The space of a search for some devices.

    Args:
        space: the space of the run.
        devices: all of them have mixed profiles, or none.
        grain: the parts whose precision is a choice; None: `DEFAULT_GRAIN` for devices with mixed profiles.

    Raises:
        ValueError: a device has no mixed profile, but `grain` or another device needs one.
    """
    mixed = [device for device in devices if device.profile.key.precision == MIXED]
    if not mixed and grain is None:
        return space
    for device in devices:
        if device not in mixed:
            profile = device.profile
            raise ValueError(
                f"{'--bits needs' if grain else 'the other devices need'} a profile of mixed precision, got "
                f"the device {profile.name!r} in {profile.key.precision}; create one with "
                f"`{mixed_profile_command(space.source, profile.name)}`"
            )
    return with_precision(space, grain or DEFAULT_GRAIN)


def searched_space(space: Space, record: Mapping[str, Any]) -> Space:
    """The space of a finished search.

    Args:
        space: the space of the run.
        record: the record of the search.
    """
    grain = record.get(BITS)
    return with_precision(space, cast(Grain, grain)) if grain else space


def in_floating_point(frame: pd.DataFrame, space: PrecisionSpace) -> pd.DataFrame:
    """Convert a table of subnets of the base space to subnets of `space` without INT8."""
    archs = [space.uniform(arch, FP32) for arch in frame["arch"]]
    return frame.assign(arch=pd.Series(archs, frame.index, dtype=object), arch_id=[arch.id for arch in archs])
