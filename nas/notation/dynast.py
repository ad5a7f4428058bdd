"""The notation of DyNAS-T for vision transformers with fixed width.

An arch is written as `{"num_layers": …, "num_attention_heads": […], "vit_intermediate_sizes": […]}`. The
lists have an entry for each block at the maximum depth; a single number is a list of equal entries. The sizes
are the hidden channels of the MLPs.
"""

from __future__ import annotations

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

KEYS = ("num_layers", "num_attention_heads", "vit_intermediate_sizes")


def arch_from_dynast(space: Space, notation: Notation) -> Arch:
    """Convert an arch from the notation of DyNAS-T; its resolution is the largest one of the space.

    Raises:
        ValueError: an unknown or missing key, a wrong number of entries, or an option that the space does not
            have.
    """
    width = _width(space)
    check_keys(notation, KEYS, optional=())
    depth = depth_of(space, notation, "num_layers")
    sizes = active_entries(notation, "vit_intermediate_sizes", depth)
    config = family_config(space, ViTConfig)
    mlps = sizes if config.mlp else [_ratio(size, width, config.mlp_ratio) for size in sizes]
    values: dict[str, Value] = {"resolution": space.resolutions[-1], "width": width, "depth": depth}
    values |= choice_values(space, mlp_kind(config), depth, mlps)
    values |= choice_values(space, "heads", depth, active_entries(notation, "num_attention_heads", depth))
    return checked(space, Arch(values))


def arch_to_dynast(space: Space, arch: Arch) -> dict[str, Any]:
    """The inverse of `arch_from_dynast`; entries beyond the depth are the largest option.

    Raises:
        ValueError: the space is of another family or has several widths, or the arch is not in it.
    """
    width, config = _width(space), family_config(space, ViTConfig)
    checked(space, arch)
    depth = int(arch["depth"])
    mlps = [arch[name] for name in active_names(space, mlp_kind(config), depth)]
    sizes = mlps if config.mlp else [int(width * ratio) for ratio in mlps]
    largest = config.mlp[-1] if config.mlp else int(width * config.mlp_ratio[-1])
    inactive = config.depth[-1] - depth
    return {
        "num_layers": depth,
        "num_attention_heads": [
            *(arch[name] for name in active_names(space, "heads", depth)),
            *[config.heads[-1]] * inactive,
        ],
        "vit_intermediate_sizes": [*sizes, *[largest] * inactive],
    }


def _width(space: Space) -> int:
    widths = family_config(space, ViTConfig).width
    if len(widths) > 1:
        raise ValueError(
            f"the notation of DyNAS-T has no width, but the space {space.name!r} has several: {list(widths)}"
        )
    return widths[0]


def _ratio(size: Value, width: int, ratios: tuple[float, ...]) -> Value:
    """The ratio of an MLP with this number of hidden channels."""
    matching = [ratio for ratio in ratios if int(width * ratio) == size]
    if not matching:
        sizes = [int(width * ratio) for ratio in ratios]
        raise ValueError(f"each entry of vit_intermediate_sizes must be one of {sizes}, got {size}")
    return matching[0]
