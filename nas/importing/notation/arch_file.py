"""Reading of an arch from a JSON file, in the notation of this toolkit or in a published one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from nas.importing.notation.fields import checked
from nas.importing.notation.published import arch_from_notation
from search_spaces import Arch, Space
from search_spaces.families.hybrid_config import HybridConfig
from search_spaces.text_files import read_text

SOURCES: Mapping[str, str] = {
    "kernel_size": "attentivenas",
    "d": "ofa",
    "layer_num": "autoformer",
    "NUM_HEADS": "autoformer",
    "RETRAIN": "autoformer",
    "vit_intermediate_sizes": "dynast",
}
"""Sources of published notations by a key that only this notation has."""


def load_arch(space: Space, path: str | Path) -> Arch:
    """Read an arch of `space` from a JSON file.

    Raises:
        ValueError: the file is missing or not JSON, or its arch is not in the space.
    """
    try:
        text = read_text(path)
    except OSError as error:
        raise ValueError(f"cannot read the arch file {path}: {error.strerror}") from None
    try:
        content = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    source = _source(space, content)
    if source is None:
        return checked(space, Arch.from_json(text, source=str(path)))
    try:
        return arch_from_notation(source, space, content)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _source(space: Space, content: object) -> str | None:
    """Source of the notation of an arch in a JSON file; None: it is that of this toolkit."""
    if isinstance(content, list):
        return "elasticvit"
    keys = content if isinstance(content, dict) else {}
    source = next((tool for key, tool in SOURCES.items() if key in keys), None)
    return "nasvit" if source == "attentivenas" and isinstance(space.config, HybridConfig) else source
