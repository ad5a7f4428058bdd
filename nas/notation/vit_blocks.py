"""Entries of the blocks of a vision transformer in the notations of published tools."""

from __future__ import annotations

from collections.abc import Sequence

from nas.notation.fields import Notation, family_config, integers, numbers
from search_spaces import Space
from search_spaces.arch import Value
from search_spaces.families.vit_config import ViTConfig


def depth_of(space: Space, notation: Notation, key: str) -> int:
    """The number of blocks.

    Raises:
        ValueError: the space does not have this depth.
    """
    (depth,) = integers(notation, key, 1)
    options = family_config(space, ViTConfig).depth
    if depth not in options:
        raise ValueError(f"{key} must be one of {options} in the space {space.name!r}, got {depth}")
    return depth


def active_entries(notation: Notation, key: str, depth: int) -> list[Value]:
    """The entries of the active blocks; a single number is the entry of all blocks."""
    value = notation[key]
    n = max(len(value), depth) if isinstance(value, Sequence) else depth
    return numbers(notation, key, n)[:depth]


def mlp_kind(config: ViTConfig) -> str:
    """The kind of the choice of an MLP's hidden channels."""
    return "mlp_ratio" if config.mlp_ratio else "mlp"


def active_names(space: Space, kind: str, depth: int) -> list[str]:
    """The name of the choice `kind` for each active block, in order; equal names if all blocks share it."""
    choices = [choice for choice in space.choices.values() if choice.kind == kind]
    if len(choices) == 1 and choices[0].block is None:
        return [choices[0].name] * depth
    return [choice.name for choice in choices if choice.is_active({"depth": depth})]


def choice_values(space: Space, kind: str, depth: int, entries: Sequence[Value]) -> dict[str, Value]:
    """The values of a choice of the active blocks, by name.

    Raises:
        ValueError: the space has one choice for all blocks, and the entries differ.
    """
    values = dict(zip(active_names(space, kind, depth), entries, strict=True))
    if len(values) == 1 and len(set(entries)) > 1:
        raise ValueError(f"the space {space.name!r} has one {kind} for all blocks, got {list(entries)}")
    return values
