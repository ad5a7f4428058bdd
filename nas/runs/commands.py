"""Commands for messages, quoted so that they can be copied to a shell."""

from __future__ import annotations

import shlex
from pathlib import Path


def command(name: str, *parts: str | Path) -> str:
    """A `nas` command with its arguments and options."""
    return shlex.join(["nas", name, *map(str, parts)])


def data_options(
    dataset: str | None, data_root: str | Path | None = None, *, allow_import: bool = False
) -> list[str]:
    """The options by which a command finds the data of a run.

    Args:
        dataset: name of the data set. A name of the form `module:object` must be given to every command.
        data_root: folder of the images.
        allow_import: whether custom code may be imported.
    """
    options = ["--dataset", dataset] if dataset and ":" in dataset else []
    options += ["--data-root", str(data_root)] if data_root else []
    return [*options, *["--allow-import"] * allow_import]
