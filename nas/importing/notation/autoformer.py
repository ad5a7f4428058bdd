"""The notation of AutoFormer and PreNAS.

An arch is written as `{"layer_num": …, "embed_dim": […], "mlp_ratio": […], "num_heads": […]}`. The lists
have an entry for each block, and those of `embed_dim` are equal. Candidates of PreNAS also have `num_params`
and `score`. AutoFormer's files of subnets have the keys `DEPTH`, `EMBED_DIM`, `MLP_RATIO` and `NUM_HEADS`
instead, at the top or under `RETRAIN`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nas.importing.notation.fields import Notation, check_keys, checked, integers, numbers
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
    config = _config(space)
    notation = _with_lower_case(notation)
    check_keys(notation, KEYS, optional=("num_params", "score"))
    (depth,) = integers(notation, "layer_num", 1)
    if depth not in config.depth:
        raise ValueError(f"layer_num must be one of {config.depth} in the space {space.name!r}, got {depth}")
    widths = _entries(notation, "embed_dim", depth)
    if len(set(widths)) != 1:
        raise ValueError(f"embed_dim must be the same for all blocks, got {notation['embed_dim']!r}")
    ratios = _entries(notation, "mlp_ratio", depth)
    values: dict[str, Value] = {"resolution": space.resolutions[-1], "width": widths[0], "depth": depth}
    mlps = ratios if config.mlp_ratio else [int(widths[0] * ratio) for ratio in ratios]
    values |= _choices(space, _mlp(config), depth, mlps)
    values |= _choices(space, "heads", depth, _entries(notation, "num_heads", depth))
    return checked(space, Arch(values))


def arch_to_autoformer(space: Space, arch: Arch) -> dict[str, Any]:
    """The inverse of `arch_from_autoformer`.

    Raises:
        ValueError: the space is of another family or the arch is not in it.
    """
    config = _config(space)
    checked(space, arch)
    depth, width = int(arch["depth"]), int(arch["width"])
    mlps = [arch[name] for name in _names(space, _mlp(config), depth)]
    return {
        "layer_num": depth,
        "embed_dim": [width] * depth,
        "mlp_ratio": mlps if config.mlp_ratio else [mlp / width for mlp in mlps],
        "num_heads": [arch[name] for name in _names(space, "heads", depth)],
    }


def _config(space: Space) -> ViTConfig:
    if not isinstance(space.config, ViTConfig):
        raise ValueError(f"this notation is for spaces of the family vit, got {space.config.family!r}")
    return space.config


def _with_lower_case(notation: Notation) -> Notation:
    """The notation of a subnet in AutoFormer's files by the keys of an arch."""
    subnet = notation.get(SUBNET, notation)
    if not isinstance(subnet, Mapping):
        raise ValueError(f"{SUBNET} must have the keys {list(SUBNET_KEYS)}, got {subnet!r:.60}")
    if not set(SUBNET_KEYS) & subnet.keys():
        return notation
    check_keys(subnet, SUBNET_KEYS, optional=())
    return dict(zip(KEYS, (subnet[key] for key in SUBNET_KEYS), strict=True))


def _entries(notation: Notation, key: str, depth: int) -> list[Value]:
    """The entries of the active blocks; a single number is for all."""
    value = notation[key]
    n = max(len(value), depth) if isinstance(value, Sequence) else depth
    return numbers(notation, key, n)[:depth]


def _mlp(config: ViTConfig) -> str:
    return "mlp_ratio" if config.mlp_ratio else "mlp"


def _names(space: Space, kind: str, depth: int) -> list[str]:
    """The name of the choice `kind` for each active block, in order; the same one if it is for all blocks."""
    choices = [choice for choice in space.choices.values() if choice.kind == kind]
    if len(choices) == 1 and choices[0].block is None:
        return [choices[0].name] * depth
    return [choice.name for choice in choices if choice.is_active({"depth": depth})]


def _choices(space: Space, kind: str, depth: int, entries: Sequence[Value]) -> dict[str, Value]:
    values = dict(zip(_names(space, kind, depth), entries, strict=True))
    if len(values) == 1 and len(set(entries)) > 1:
        raise ValueError(f"the space {space.name!r} has one {kind} for all blocks, got {list(entries)}")
    return values
