"""Weights and architectures of other tools."""

from __future__ import annotations

from typing import TYPE_CHECKING

from search_spaces.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from nas.importing.importers import load_supernet as load_supernet
    from nas.notation.published import arch_from_notation as arch_from_notation
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "load_supernet": "nas.importing.importers",
            "arch_from_notation": "nas.notation.published",
        },
    )
