"""An arch in a JSON file, in our own notation or in a published one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from nas.importing.notation.attentivenas import arch_from_attentivenas
from nas.importing.notation.fields import Notation, checked
from nas.importing.notation.ofa import arch_from_ofa
from search_spaces import Arch, Space
from search_spaces.text_files import read_text

NOTATIONS: dict[str, Callable[[Space, Notation], Arch]] = {
    "kernel_size": arch_from_attentivenas,
    "d": arch_from_ofa,
}
"""Readers of published notations by a key that no other notation has."""


def load_arch(space: Space, path: str | Path) -> Arch:
    """The arch of `space` that a JSON file describes.

    Raises:
        ValueError: the file is missing, is not JSON, or does not describe an arch of the space.
    """
    try:
        text = read_text(path)
    except OSError as error:
        raise ValueError(f"cannot read the arch file {path}: {error.strerror}") from None
    try:
        content = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    readers = [read for key, read in NOTATIONS.items() if isinstance(content, dict) and key in content]
    if not readers:
        return checked(space, Arch.from_json(text, source=str(path)))
    try:
        return readers[0](space, content)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
