"""Spaces by name or path."""

from __future__ import annotations

from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from search_spaces.errors import one_line
from search_spaces.families.hybrid import HybridConfig, HybridSpace
from search_spaces.families.mbconv import MBConvConfig, MBConvSpace
from search_spaces.families.resnet import ResNetConfig, ResNetSpace
from search_spaces.families.traced import TracedConfig, TracedSpace
from search_spaces.families.vit import ViTConfig, ViTSpace
from search_spaces.precision_space import GRAINS, with_precision
from search_spaces.space import Space
from search_spaces.text_files import read_text
from search_spaces.yaml_text import LOADER, load_yaml

FAMILIES: dict[str, Callable[[dict[str, Any]], Space]] = {
    "hybrid": lambda content: HybridSpace(HybridConfig.model_validate(content)),
    "mbconv": lambda content: MBConvSpace(MBConvConfig.model_validate(content)),
    "resnet": lambda content: ResNetSpace(ResNetConfig.model_validate(content)),
    "traced": lambda content: TracedSpace(TracedConfig.model_validate(content)),
    "vit": lambda content: ViTSpace(ViTConfig.model_validate(content)),
}
"""Makes a space of each family from the content of its YAML file."""


def names() -> list[str]:
    """Names of the shipped spaces."""
    files = resources.files("search_spaces").iterdir()
    return sorted(file.name.removesuffix(".yaml") for file in files if file.name.endswith(".yaml"))


def get(name_or_path: str | Path) -> Space:
    """The space with this name, or the one in a YAML file.

    Raises:
        ValueError: there is no such space or file, or the file does not describe a space.
    """
    space = _read(str(name_or_path))
    space.source = str(name_or_path)
    return space


def _read(text: str) -> Space:
    if text in names():
        shipped = resources.files("search_spaces").joinpath(f"{text}.yaml")
        return parse(shipped.read_text(encoding="utf-8"), source=text)
    if not text.endswith((".yaml", ".yml")):
        raise ValueError(f"space must be one of {names()} or the path of a YAML file, got {text!r}")
    try:
        return parse(read_text(text), source=text)
    except OSError as error:
        raise ValueError(f"cannot read the space {text}: {error.strerror}") from None


def parse(text: str, source: str = "space") -> Space:
    """The space that YAML text describes; `source` names the text in error messages.

    Raises:
        ValueError: the text is not YAML or does not describe a space.
    """
    content = load_yaml(text, source)
    if not isinstance(content, dict):
        raise ValueError(f"{source} must be a YAML mapping with the keys of a space, got {content!r:.60}")
    grain = content.pop("bits", None)
    if grain not in (None, *GRAINS):
        raise ValueError(f"{source}: bits must be one of {list(GRAINS)}, got {grain!r}")
    family = content.get("family", "mbconv")
    if family not in FAMILIES:
        raise ValueError(f"{source}: family must be one of {sorted(FAMILIES)}, got {family!r}")
    try:
        space = FAMILIES[family](content)
    except ValidationError as error:
        raise ValueError(one_line(error, source, lambda place: f"line {_line(text, place)}, ")) from None
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None
    return with_precision(space, grain) if grain else space


def _line(text: str, place: tuple[int | str, ...]) -> int:
    """Line number, from 1, of the deepest node of the YAML text on the way to `place`."""
    node: yaml.Node | None = yaml.compose(text, Loader=LOADER)
    assert node is not None  # `parse` read a mapping from the same text
    line: int = node.start_mark.line
    for step in place:
        if isinstance(node, yaml.MappingNode):
            children = {key.value: value for key, value in node.value}
        elif isinstance(node, yaml.SequenceNode):
            children = dict(enumerate(node.value))
        else:
            break
        if step not in children:
            break
        node = children[step]
        line = node.start_mark.line
    return line + 1
