"""Read YAML, without repeated keys."""

from __future__ import annotations

from typing import Any

import yaml

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The loader of libyaml if PyYAML was built with it, since it is ten times as fast."""


def load_yaml(text: str, source: str) -> Any:
    """The content of YAML text.

    Args:
        text: the text.
        source: name of the text for error messages.

    Raises:
        ValueError: the text is not YAML, or a mapping has a repeated key; the message has the line.
    """
    try:
        return _load(text, source)
    except RecursionError:
        raise ValueError(f"{source} has too many levels of nested lists or mappings") from None


def _load(text: str, source: str) -> Any:
    try:
        root = yaml.compose(text, Loader=LOADER)
        content = yaml.load(text, Loader=LOADER)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date or number that does not exist
        raise ValueError(f"{source} is not YAML: {' '.join(str(error).split())}") from None
    _check_repeated_keys(root, source, set())
    return content


def _check_repeated_keys(node: yaml.Node | None, source: str, seen: set[int]) -> None:
    """Check a node and its descendants; `seen` has the ids of visited nodes: aliases may form cycles."""
    if node is None or id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for child in node.value:
            _check_repeated_keys(child, source, seen)
    if isinstance(node, yaml.MappingNode):
        lines: dict[str, int] = {}
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                line = key.start_mark.line + 1
                if key.value in lines:
                    raise ValueError(
                        f"{source}, line {line}: the key {key.value!r} must occur once in a mapping, but it "
                        f"is also in line {lines[key.value]}"
                    )
                lines[key.value] = line
            _check_repeated_keys(value, source, seen)
