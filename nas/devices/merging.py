"""Merges profiles of one device in fp32 and in INT8 into a mixed profile."""

from __future__ import annotations

import pandas as pd

from hw_profiles.device import Device
from hw_profiles.latency_models.lookup_table import COLUMNS
from hw_profiles.latency_models.other_data import table_blocks
from hw_profiles.profile import IDENTITY_FIELDS
from hw_profiles.run_settings import RunSettings
from search_spaces import Space, block_key
from search_spaces.block_precision import in_precision
from search_spaces.tensors import FP32, INT8, MIXED

_MAY_DIFFER = {"precision", "int8_for"}


def merged_settings(fp32: Device, int8: Device) -> RunSettings:
    """The run settings of the merged profile.

    Args:
        fp32: profile in fp32.
        int8: profile in INT8.

    Raises:
        ValueError: a profile has another precision or no table of blocks, or the two profiles differ in
            device, space or run settings.
    """
    for device, precision in ((fp32, FP32), (int8, INT8)):
        profile = device.profile
        if profile.key.precision != precision or not profile.n_blocks:
            raise ValueError(
                f"--merge needs a profile in {FP32} and one in {INT8}, each with a table of blocks, got "
                f"{profile.name!r} in {profile.key.precision} with {profile.n_blocks} blocks for {precision}"
            )
    first, second = (_identity(device) for device in (fp32, int8))
    differing = [field for field in first if first[field] != second[field]]
    if differing:
        own, other = (", ".join(f"{field} {of[field]}" for field in differing) for of in (first, second))
        raise ValueError(
            f"--merge needs two profiles of one device with equal run settings, got {fp32.profile.name!r} "
            f"with {own} and {int8.profile.name!r} with {other}; profile with --precision {MIXED} instead"
        )
    key = int8.profile.key
    return RunSettings.model_validate(key.model_dump(include=set(RunSettings.model_fields))).model_copy(
        update={"precision": MIXED}
    )


def _identity(device: Device) -> dict[str, object]:
    profile = device.profile
    hardware = {field: getattr(profile.hardware, field) for field in IDENTITY_FIELDS}
    return {"space": profile.space} | hardware | profile.key.model_dump(exclude=_MAY_DIFFER)


def merged_rows(space: Space, fp32: Device, int8: Device) -> pd.DataFrame:
    """The rows of both tables; the rows of `int8` get the keys of blocks in INT8.

    Args:
        space: the space that is profiled, without the precision as a choice.
        fp32: profile in fp32.
        int8: profile in INT8; its table has the keys of the same blocks in fp32.

    Raises:
        ValueError: the profiles are for another space or lack blocks of this space.
    """
    if not (space.has_blocks_of(fp32.space) and space.has_blocks_of(int8.space)):
        raise ValueError(
            f"--merge needs profiles of the space {space.name!r}, got profiles of {fp32.profile.space!r}"
        )
    blocks = {
        key: timed.block
        for each in (fp32.space, int8.space, space)
        for key, timed in table_blocks(each, FP32).items()
    }
    new_keys = {key: block_key(in_precision(block, INT8)) for key, block in blocks.items()}
    own = {key: new_keys.get(key) for key in int8.blocks["block_key"]}
    in_int8 = int8.blocks.assign(block_key=int8.blocks["block_key"].map(own)).dropna(subset=["block_key"])
    return pd.concat([fp32.blocks, in_int8], ignore_index=True)[list(COLUMNS)]
