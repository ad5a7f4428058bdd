"""Reading of archs from JSON and YAML files, in the notation of this toolkit or in a published one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nas.notation.fields import checked
from nas.notation.published import arch_from_notation
from search_spaces import Arch, Space
from search_spaces.families.hybrid_config import HybridConfig
from search_spaces.precision_space import space_of
from search_spaces.text_files import read_text
from search_spaces.yaml_text import load_yaml

SOURCES: Mapping[str, str] = {
    "kernel_size": "attentivenas",
    "d": "ofa",
    "layer_num": "autoformer",
    "NUM_HEADS": "autoformer",
    "RETRAIN": "autoformer",
    "vit_intermediate_sizes": "dynast",
}
"""Tool of each published notation, by a key that occurs only in this notation."""
YAML_SUFFIXES = (".yaml", ".yml")


def load_archs(space: Space, path: str | Path) -> list[Arch]:
    """Read a list of archs of `space` from a JSON or YAML file.

    The content is a list of archs, a mapping from any names to such lists, as PreNAS writes the candidates of
    each interval of sizes, or one arch in a published notation, such as a subnet of AutoFormer. Each arch is
    in the notation of this toolkit or in a published one.

    Raises:
        ValueError: the file is missing, not JSON or YAML or has no archs, or an arch is not in the space.
    """
    _, content = _read(path)
    if isinstance(content, dict):
        lists = [[content]] if _source(space, content) else list(content.values())
    else:
        lists = [content]
    if not lists or not all(isinstance(archs, list) and archs for archs in lists):
        raise ValueError(f"{path} must have a list of archs, or lists of archs by name")
    return [
        _from_content(space, arch, json.dumps(arch), f"{path}, arch {number}")
        for number, arch in enumerate((arch for archs in lists for arch in archs), start=1)
    ]


def load_arch(space: Space, path: str | Path) -> Arch:
    """Read an arch of `space` from a JSON or YAML file.

    Raises:
        ValueError: the file is missing, or not JSON or YAML, or its arch is not in the space.
    """
    text, content = _read(path)
    return _from_content(space, content, text, str(path))


def _read(path: str | Path) -> tuple[str, Any]:
    """The content of a JSON or YAML file, as JSON text and as an object."""
    try:
        text = read_text(path)
    except OSError as error:
        raise ValueError(f"cannot read the arch file {path}: {error.strerror}") from None
    if Path(path).suffix in YAML_SUFFIXES:
        content = load_yaml(text, str(path))
        return json.dumps(content), content
    try:
        return text, json.loads(text)
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from None


def _source(space: Space, content: Any) -> str | None:
    """The tool in whose notation the content is written; None for the notation of this toolkit."""
    if isinstance(content, list):
        return "elasticvit"
    keys = content if isinstance(content, dict) else {}
    source = next((tool for key, tool in SOURCES.items() if key in keys), None)
    return "nasvit" if source == "attentivenas" and isinstance(space.config, HybridConfig) else source


def _from_content(space: Space, content: Any, text: str, place: str) -> Arch:
    """The arch in a JSON text; messages begin with `place`."""
    source = _source(space, content)
    arch = Arch.from_json(text, source=place) if source is None else None
    try:
        return (
            checked(space_of(space, arch), arch)
            if arch is not None
            else arch_from_notation(str(source), space, content)
        )
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from None
