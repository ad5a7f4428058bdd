"""Lazy exports of a package, which are imported at their first use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module


def lazy_exports(package: str, modules: Mapping[str, str]) -> Callable[[str], object]:
    """Return a `__getattr__` function for a package, which imports each exported name at its first use.

    Args:
        package: name of the package.
        modules: full name of the module of each exported name. If the module is `PACKAGE.NAME`, the module
            itself is exported.
    """

    def get(name: str) -> object:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = import_module(modules[name])
        return module if modules[name] == f"{package}.{name}" else getattr(module, name)

    return get
