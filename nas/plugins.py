"""Parts by name: those of the toolkit, or a user's own as `module:object`."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Mapping
from typing import Any, TypeVar

Part = TypeVar("Part")


def resolve(
    kind: str, name: str, table: Mapping[str, Part], protocol: Any = None, *, allow_import: bool = True
) -> Part:
    """The part called `name`.

    Args:
        kind: what the part is, for messages: `dataset`, `metric`, `objective`, `predictor`, `sampler`,
            `search algorithm`.
        name: a key of `table`, or `module:object` of importable code (the current folder counts).
        table: the toolkit's own parts.
        protocol: runtime-checkable Protocol that a user's part must satisfy; None: it must be callable.
        allow_import: False where the name was read from a run's record and not given by the user now;
            code is then never imported.

    Raises:
        ValueError: unknown name, an object that cannot be imported or does not satisfy the protocol, or an
            import that was not allowed.
    """
    if ":" not in name:
        if name not in table:
            raise ValueError(f"{kind} must be one of {sorted(table)} or module:object, got {name!r}")
        return table[name]
    if not allow_import:
        raise ValueError(
            f"the run names the {kind} {name!r}, code outside the toolkit that is not imported unasked: "
            f"give it again as an option, or add --allow-import"
        )
    part: Part = _import(kind, name)
    check(kind, name, part, protocol)
    return part


def check(kind: str, name: str, part: object, protocol: Any = None) -> None:
    """Refuse a part that is not a `protocol`; arguments as in `resolve`.

    Raises:
        ValueError: names the missing members, or the part is a class where one of its objects belongs.
    """
    if protocol is not None and isinstance(part, type):
        raise ValueError(f"the {kind} {name!r} must be an object, got a class; name one of its objects")
    missing = _missing(part, protocol)
    if missing:
        wanted = protocol.__name__ if protocol else "a callable"
        raise ValueError(f"the {kind} {name!r} must be {wanted}, but has no {', '.join(missing)}")


def _import(kind: str, name: str) -> Any:
    module_name, _, attribute = name.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        part: Any = importlib.import_module(module_name)
        for step in attribute.split("."):
            part = getattr(part, step)
    except Exception as error:  # whatever the user's module raises while it is imported
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(f"cannot import the {kind} {name!r}: {reason}") from error
    return part


def _missing(part: Any, protocol: Any) -> list[str]:
    """Names that `part` lacks to satisfy `protocol`."""
    if protocol is None:
        return [] if callable(part) else ["__call__"]
    members: set[str] = set()
    for base in protocol.__mro__:
        if base.__module__ not in ("builtins", "typing"):
            members |= vars(base).keys() | inspect.get_annotations(base).keys()
    public = {name for name in members if not name.startswith("_") or name == "__call__"}
    return sorted(name for name in public if not hasattr(part, name))
