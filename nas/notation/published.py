"""Conversion of architectures from the notations of published tools."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from nas.notation.attentivenas import arch_from_attentivenas
from nas.notation.autoformer import arch_from_autoformer
from nas.notation.dynast import arch_from_dynast
from nas.notation.elasticvit import arch_from_elasticvit
from nas.notation.nasvit import arch_from_nasvit
from nas.notation.ofa import arch_from_ofa
from search_spaces import Arch, Space

NOTATIONS: Mapping[str, Callable[[Space, Any], Arch]] = {
    "ofa": arch_from_ofa,
    "attentivenas": arch_from_attentivenas,
    "autoformer": arch_from_autoformer,
    "prenas": arch_from_autoformer,
    "dynast": arch_from_dynast,
    "nasvit": arch_from_nasvit,
    "elasticvit": arch_from_elasticvit,
}
"""Readers of notations by tool."""


def arch_from_notation(source: str, space: Space, notation: Any) -> Arch:
    """Convert an arch from the notation of another tool.

    Args:
        source: name of the tool, a key of `NOTATIONS`.
        space: the space of the arch.
        notation: the arch, such as `{"ks": [...], "e": [...], "d": [...], "r": 224}` for OFA; for ElasticViT
            it is a list.

    Raises:
        ValueError: an unknown source, a missing or unknown key, or an option that the space does not have.
    """
    if source not in NOTATIONS:
        raise ValueError(f"the source of a notation must be one of {sorted(NOTATIONS)}, got {source!r}")
    return NOTATIONS[source](space, notation)
