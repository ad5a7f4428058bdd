"""Reading and checking of the fields of a notation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from typing import Any, TypeVar

from search_spaces import Arch, Space
from search_spaces.arch import Value
from search_spaces.config import SpaceConfig

Notation = Mapping[str, Any]
Config = TypeVar("Config", bound=SpaceConfig)


def family_config(space: Space, kind: type[Config]) -> Config:
    """The config of a space of one family.

    Args:
        space: the space.
        kind: the config of the family.

    Raises:
        ValueError: the space is of another family.
    """
    if not isinstance(space.config, kind):
        family = kind.model_fields["family"].default
        raise ValueError(f"this notation is for spaces of the family {family}, got {space.config.family!r}")
    return space.config


def checked(space: Space, arch: Arch) -> Arch:
    """Return `arch` after checking that it is in the space.

    Raises:
        ValueError: the arch is not in the space.
    """
    space.encode([arch])
    return arch


def check_keys(notation: Notation, required: Sequence[str], optional: Sequence[str]) -> None:
    """Check that a notation has all `required` keys, and no others except the `optional` ones.

    Raises:
        ValueError: a key is missing or unknown; the message lists them.
    """
    missing = sorted(set(required) - notation.keys())
    unknown = sorted(notation.keys() - {*required, *optional})
    if missing or unknown:
        raise ValueError(
            f"the notation must have the keys {list(required)} and may have {list(optional)}: "
            f"missing {missing}, unknown {unknown}"
        )


def numbers(notation: Notation, key: str, n: int) -> list[Value]:
    """The `n` numbers in the list `notation[key]`; a single number is repeated `n` times.

    Raises:
        ValueError: the list has another length, or an entry is not a number.
    """
    value = notation[key]
    entries = [value] * n if isinstance(value, Real) else value
    if (
        not isinstance(entries, Iterable)
        or len(entries := list(entries)) != n
        or not all(isinstance(entry, Real) for entry in entries)
    ):
        raise ValueError(f"{key} must have {n} numbers, got {value!r}")
    return [plain_number(float(entry)) for entry in entries]


def plain_number(value: float) -> Value:
    """Convert whole numbers to int, as the published tools write them."""
    return int(value) if value.is_integer() else value


def integers(notation: Notation, key: str, n: int) -> list[int]:
    """As `numbers`, for integers.

    Raises:
        ValueError: as `numbers`, or a number is not an integer.
    """
    entries = numbers(notation, key, n)
    if not all(isinstance(entry, int) for entry in entries):
        raise ValueError(f"{key} must have whole numbers, got {notation[key]!r}")
    return [int(entry) for entry in entries]
