"""The notation of AutoFormer and PreNAS.

An arch is written as `{"layer_num": …, "embed_dim": […], "mlp_ratio": […], "num_heads": […]}`. The lists
have an entry for each block; all entries of `embed_dim` are equal. Candidates of PreNAS also have
`num_params` and `score`. AutoFormer's files of subnets have the keys `DEPTH`, `EMBED_DIM`, `MLP_RATIO` and
`NUM_HEADS` instead, at the top or under `RETRAIN`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nas.notation.fields import Notation, check_keys, checked, family_config
from nas.notation.vit_blocks import (
    active_entries,
    active_names,
    choice_values,
    depth_of,
    mlp_kind,
)
from search_spaces import Arch, Space
from search_spaces.arch import Value
from search_spaces.families.vit_config import ViTConfig

KEYS = ("layer_num", "embed_dim", "mlp_ratio", "num_heads")
SUBNET = "RETRAIN"
SUBNET_KEYS = ("DEPTH", "EMBED_DIM", "MLP_RATIO", "NUM_HEADS")


def arch_from_autoformer(space: Space, notation: Notation) -> Arch:
    """Convert an arch from the notation of AutoFormer; its resolution is the largest one of the space.

    Raises:
        ValueError: an unknown or missing key, a wrong number of entries, different widths, or an option that
            the space does not have.
    """
    config = family_config(space, ViTConfig)
    notation = _with_lower_case(notation)
    check_keys(notation, KEYS, optional=("num_params", "score"))
    depth = depth_of(space, notation, "layer_num")
    widths = active_entries(notation, "embed_dim", depth)
    if len(set(widths)) != 1:
        raise ValueError(f"embed_dim must be the same for all blocks, got {notation['embed_dim']!r}")
    ratios = active_entries(notation, "mlp_ratio", depth)
    values: dict[str, Value] = {"resolution": space.resolutions[-1], "width": widths[0], "depth": depth}
    mlps = ratios if config.mlp_ratio else [int(widths[0] * ratio) for ratio in ratios]
    values |= choice_values(space, mlp_kind(config), depth, mlps)
    values |= choice_values(space, "heads", depth, active_entries(notation, "num_heads", depth))
    return checked(space, Arch(values))


def arch_to_autoformer(space: Space, arch: Arch) -> dict[str, Any]:
    """The inverse of `arch_from_autoformer`.

    Raises:
        ValueError: the space is of another family or the arch is not in it.
    """
    config = family_config(space, ViTConfig)
    checked(space, arch)
    depth, width = int(arch["depth"]), int(arch["width"])
    mlps = [arch[name] for name in active_names(space, mlp_kind(config), depth)]
    return {
        "layer_num": depth,
        "embed_dim": [width] * depth,
        "mlp_ratio": mlps if config.mlp_ratio else [mlp / width for mlp in mlps],
        "num_heads": [arch[name] for name in active_names(space, "heads", depth)],
    }


def _with_lower_case(notation: Notation) -> Notation:
    """Convert the content of one of AutoFormer's files of subnets to the keys of an arch."""
    subnet = notation.get(SUBNET, notation)
    if not isinstance(subnet, Mapping):
        raise ValueError(f"{SUBNET} must have the keys {list(SUBNET_KEYS)}, got {subnet!r:.60}")
    if not set(SUBNET_KEYS) & subnet.keys():
        return notation
    check_keys(subnet, SUBNET_KEYS, optional=())
    return dict(zip(KEYS, (subnet[key] for key in SUBNET_KEYS), strict=True))
