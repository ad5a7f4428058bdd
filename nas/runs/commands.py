"""Commands that messages name, written so that they can be copied to a shell."""

from __future__ import annotations

import shlex
from pathlib import Path


def command(name: str, *parts: str | Path) -> str:
    """A command of the tool with its arguments and options."""
    return shlex.join(["nas", name, *map(str, parts)])


def data_options(
    dataset: str | None, data_root: str | Path | None = None, *, allow_import: bool = False
) -> list[str]:
    """The options with which a command on a run finds its data.

    Args:
        dataset: given as an option, or recorded as `module:object`, which is imported only if named again.
        data_root: given as an option.
        allow_import: given as an option.
    """
    options = ["--dataset", dataset] if dataset and ":" in dataset else []
    options += ["--data-root", str(data_root)] if data_root else []
    return [*options, *["--allow-import"] * allow_import]
