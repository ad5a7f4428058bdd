"""Keys of a recipe: groups, their kinds, and changes by dotted name such as `schedule.decay`."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from copy import deepcopy
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, model_validator
from pydantic.fields import FieldInfo

KIND = "kind"
"""Key that selects one of several alternative groups."""
IMPORTED = "module:object"
"""Represents all kinds that are names of custom code."""


class MayChange:
    """Mark of a key that may differ when a run is resumed, because it does not change the trained weights."""


class Group(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False):
    """Keys that belong together. The docstring of a field is its help text."""

    @model_validator(mode="before")
    @classmethod
    def _check_keys(cls, content: Any) -> Any:
        """Check the names of keys and kinds, and add the default kind to groups without one."""
        if not isinstance(content, Mapping):
            return content
        unknown = sorted(str(name) for name in content if name not in cls.model_fields)
        if unknown:
            of_kind = f" of kind {content[KIND]}" if content.get(KIND) else ""
            listed = ", ".join(f"{name!r}{_suggestion(name, cls)}" for name in unknown)
            keys = ", ".join(cls.model_fields)
            raise ValueError(f"unknown key {listed}; the keys{of_kind} are {keys}")
        return {name: _with_kind(cls.model_fields[name], name, value) for name, value in content.items()}


def kinds(field: FieldInfo) -> Mapping[str, type[Group]]:
    """The groups that a key may hold, by kind; a group without alternatives has the kind ""."""
    annotation = field.annotation
    if isinstance(annotation, type):
        return {"": annotation} if issubclass(annotation, Group) else {}
    groups: dict[str, type[Group]] = {}
    members = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else ()
    for member in members:
        group = get_args(member)[0] if hasattr(member, "__metadata__") else member
        if isinstance(group, type) and issubclass(group, Group):
            names = get_args(group.model_fields[KIND].annotation) or (IMPORTED,)
            groups |= dict.fromkeys(names, group)
    return groups


def group_for(field: FieldInfo, value: Mapping[str, object]) -> type[Group] | None:
    """The group that `value` describes; None if the key holds no group or `value` has an unknown kind."""
    groups = kinds(field)
    if "" in groups:
        return groups[""]
    kind = value.get(KIND, getattr(field.default, KIND, None))
    return groups.get(IMPORTED if isinstance(kind, str) and ":" in kind else str(kind))


def dotted_names(group: type[Group], prefix: str = "") -> Iterator[str]:
    """Names of all keys of a group and the groups in it."""
    for name, field in group.model_fields.items():
        members = dict.fromkeys(kinds(field).values())
        if not members:
            yield prefix + name
        for member in members:
            yield from dotted_names(member, f"{prefix}{name}.")


def with_changes(
    content: Mapping[str, object], changes: Mapping[str, object], group: type[Group]
) -> dict[str, Any]:
    """A copy of `content` with other values for some keys.

    A new kind drops the keys of its group that it does not have, and keeps the others. Kinds change before
    other keys, so the order of the changes does not matter.

    Args:
        content: plain values of a group.
        changes: new values by dotted name; numbers select items of a list.
        group: describes the keys.

    Raises:
        ValueError: a change is inside the value of another one, or inside something that has no keys.
    """
    for name in changes:
        for other in changes:
            if other.startswith(f"{name}."):
                raise ValueError(
                    f"{other} is a key of {name}, which is changed as well; leave out one of them"
                )
    changed = deepcopy(dict(content))
    for name in sorted(changes, key=lambda name: name.split(".")[-1] != KIND):
        _change(changed, name, changes[name], group)
    return changed


def differences(before: Group, after: Group, prefix: str = "") -> list[str]:
    """Dotted names of the keys that differ, without those that may change when a run is resumed."""
    if type(before) is not type(after):
        return [prefix + KIND]
    names = []
    for name, field in type(before).model_fields.items():
        old, new = getattr(before, name), getattr(after, name)
        if isinstance(old, Group) and isinstance(new, Group):
            names += differences(old, new, f"{prefix}{name}.")
        elif old != new and MayChange not in field.metadata:
            names.append(prefix + name)
    return names


def without_kinds(place: tuple[int | str, ...], group: type[Group]) -> tuple[int | str, ...]:
    """The place of a pydantic error as it is in the YAML file; pydantic adds the kinds of groups."""
    short: list[int | str] = []
    alternatives: Mapping[str, type[Group]] = {}
    current = group
    for part in place:
        if alternatives:
            by_tag = {**alternatives, **{member.__name__: member for member in alternatives.values()}}
            current, alternatives = by_tag[str(part)], {}
            continue
        short.append(part)
        field = current.model_fields.get(str(part))
        alternatives = kinds(field) if field else {}
        if "" in alternatives:
            current, alternatives = alternatives[""], {}
    return tuple(short)


def _change(content: dict[str, Any], name: str, value: object, group: type[Group]) -> None:
    *parents, key = name.split(".")
    target: Any = content
    current: type[Group] | None = group
    field: FieldInfo | None = None
    for depth, part in enumerate(parents):
        field = current.model_fields.get(part) if current else None
        if isinstance(target, dict):
            target = target.setdefault(part, {})
        elif isinstance(target, list):
            target = target[_index(part, target, name)]
        if not isinstance(target, dict | list):
            raise ValueError(f"{name}: {'.'.join(parents[: depth + 1])} is a single value without keys")
        current = group_for(field, target) if field and isinstance(target, dict) else None
    if isinstance(target, list):
        target[_index(key, target, name)] = value
        return
    target[key] = value
    new = group_for(field, target) if field and key == KIND else None
    for obsolete in target.keys() - new.model_fields.keys() if new else ():
        del target[obsolete]


def _index(text: str, items: list[Any], name: str) -> int:
    if not text.isdecimal() or int(text) >= len(items):
        raise ValueError(f"{name}: {text!r} must be the number of one of {len(items)} items, counted from 0")
    return int(text)


def _with_kind(field: FieldInfo, name: str, value: object) -> object:
    groups = kinds(field)
    if not groups or isinstance(value, Group):
        return value
    if not isinstance(value, Mapping):
        example = value if value in groups else getattr(field.default, KIND, None)
        shown = f"{{kind: {example}}}" if example else f"{{{next(iter(groups[''].model_fields))}: …}}"
        raise ValueError(f"{name} must be a group of keys such as {shown}, got {value!r:.100}")
    if "" in groups:
        return value
    completed = {KIND: getattr(field.default, KIND, None)} | dict(value)
    if group_for(field, completed) is None:
        kind = completed[KIND]
        raise ValueError(f"{name}.kind must be one of {', '.join(groups)}, got {kind!r}")
    return completed


def _suggestion(name: str, group: type[Group]) -> str:
    """A suggestion of a similar key, or an empty text."""
    spellings: dict[str, str] = {}
    for full in dotted_names(group):
        for spelling in (full, full.replace(".", "_"), full.rpartition(".")[2]):
            spellings.setdefault(spelling, full)
    close = difflib.get_close_matches(name, spellings, n=1, cutoff=0.7)
    return f" (did you mean {spellings[close[0]]!r}?)" if close else ""
