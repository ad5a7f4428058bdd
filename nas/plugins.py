"""Look up components by name: components of the toolkit, or custom components as `module:object`.

All custom code is imported here, and only with the user's permission. The user gives permission by naming the
code in this call (on the command line, in a recipe, in Python code) or with `--allow-import`. A name that
comes from a run, a profile or a checkpoint is not imported without this permission.
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

Component = TypeVar("Component")


def resolve(
    kind: str, name: str, table: Mapping[str, Component], protocol: Any = None, *, allow_import: bool = False
) -> Component:
    """The component with this name.

    Args:
        kind: the kind of component, for messages: `dataset`, `metric`, `objective`, `predictor`, `sampler`,
            `search algorithm`.
        name: a key of `table`, or `module:object` of importable code; the current folder is searched too.
        table: the components of the toolkit.
        protocol: runtime-checkable Protocol that a custom component must satisfy; None: it must be callable.
        allow_import: whether `module:object` may be imported; True only if the user gave the name in this
            call or allowed imports.

    Raises:
        ValueError: the name is unknown, the object cannot be imported or does not satisfy the protocol, or
            the import is not allowed.
    """
    if ":" not in name:
        if name not in table:
            raise ValueError(f"{kind} must be one of {sorted(table)} or module:object, got {name!r}")
        return table[name]
    check_import_allowed(kind, name, allow_import=allow_import)
    component: Component = _import(kind, name)
    check(kind, name, component, protocol)
    return component


def check_import_allowed(kind: str, name: str, *, allow_import: bool) -> None:
    """Check that a name needs no import, or that imports are allowed; arguments as in `resolve`.

    Raises:
        ValueError: the name is `module:object` and the import is not allowed.
    """
    if ":" in name and not allow_import:
        raise ValueError(
            f"the {kind} {name!r} is custom code, which is imported only with permission: "
            f"give its name as an option, or add --allow-import"
        )


def check(kind: str, name: str, component: object, protocol: Any = None) -> None:
    """Check that a component satisfies `protocol`; arguments as in `resolve`.

    Raises:
        ValueError: members are missing, or the component is a class although an object is needed.
    """
    if protocol is not None and isinstance(component, type):
        raise ValueError(f"the {kind} {name!r} must be an object, got a class; give the name of an object")
    missing = _missing(component, protocol)
    if missing:
        expected = protocol.__name__ if protocol else "a callable"
        raise ValueError(f"the {kind} {name!r} must be {expected}, but has no {', '.join(missing)}")


def _import(kind: str, name: str) -> Any:
    module_name, _, attribute = name.partition(":")
    try:
        with _current_folder_first():
            component: Any = importlib.import_module(module_name)
        for step in attribute.split("."):
            component = getattr(component, step)
    except (Exception, SystemExit) as error:  # whatever the user's module raises, also as a script
        raise ValueError(f"cannot import the {kind} {name!r}: {reason(error)}") from error
    return component


@contextmanager
def _current_folder_first() -> Iterator[None]:
    """Search the current folder first during the import of a module, and last afterwards.

    The folder remains in the search path because the module may import other modules later, also in worker
    processes, which get a copy of the path.
    """
    folder = os.getcwd()
    in_path = folder in sys.path
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)
        if not in_path:
            sys.path.append(folder)


def _missing(component: Any, protocol: Any) -> list[str]:
    """Members of `protocol` that `component` lacks."""
    if protocol is None:
        return [] if callable(component) else ["__call__"]
    members: set[str] = set()
    for base in protocol.__mro__:
        if base.__module__ not in ("builtins", "typing"):
            members |= vars(base).keys() | inspect.get_annotations(base).keys()
    public = {name for name in members if not name.startswith("_") or name == "__call__"}
    return sorted(name for name in public if not hasattr(component, name))
