"""Parts by name: those of the toolkit, or a user's own as `module:object`.

All imports of a user's code happen here, and each needs permission: a name is imported only if the user gave
it now (on the command line, in a recipe of their own, in Python code) or allowed it with `--allow-import`. A
name that was read from a run, a profile or a checkpoint is never imported without that.
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from search_spaces.checked import reason

Part = TypeVar("Part")


def resolve(
    kind: str, name: str, table: Mapping[str, Part], protocol: Any = None, *, allow_import: bool = False
) -> Part:
    """The part called `name`.

    Args:
        kind: what the part is, for messages: `dataset`, `metric`, `objective`, `predictor`, `sampler`,
            `search algorithm`.
        name: a key of `table`, or `module:object` of importable code (the current folder counts).
        table: the toolkit's own parts.
        protocol: runtime-checkable Protocol that a user's part must satisfy; None: it must be callable.
        allow_import: whether `module:object` may be imported: True only where the user gave the name now.

    Raises:
        ValueError: unknown name, an object that cannot be imported or does not satisfy the protocol, or an
            import that was not allowed.
    """
    if ":" not in name:
        if name not in table:
            raise ValueError(f"{kind} must be one of {sorted(table)} or module:object, got {name!r}")
        return table[name]
    refuse_import(kind, name, allow_import=allow_import)
    part: Part = _import(kind, name)
    check(kind, name, part, protocol)
    return part


def refuse_import(kind: str, name: str, *, allow_import: bool) -> None:
    """Refuse a name whose part would have to be imported, unless this is allowed; arguments as in `resolve`.

    Raises:
        ValueError: the name is `module:object` and must not be imported.
    """
    if ":" in name and not allow_import:
        raise ValueError(
            f"the {kind} {name!r} is code outside the toolkit, which is imported only with permission: "
            f"give its name as an option, or add --allow-import"
        )


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
    try:
        with _current_folder_first():
            part: Any = importlib.import_module(module_name)
        for step in attribute.split("."):
            part = getattr(part, step)
    except Exception as error:  # whatever the user's module raises while it is imported
        raise ValueError(f"cannot import the {kind} {name!r}: {reason(error)}") from error
    return part


@contextmanager
def _current_folder_first() -> Iterator[None]:
    """Search the current folder first while a module is imported, and last afterwards.

    It remains in the search path because the module may import others later, also in worker processes, which
    get a copy of the path.
    """
    folder = os.getcwd()
    known = folder in sys.path
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)
        if not known:
            sys.path.append(folder)


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
