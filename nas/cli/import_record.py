"""The options of an import, which are recorded so that the report of the run can show the whole command."""

from __future__ import annotations

from pathlib import Path

import typer

from nas.runs.files import SPACE

_PARTICULAR = ("--out", "--data-root", "--weights", "--check-images", "--json")
"""Options that are not recorded: the report adds them itself, or they do not change the run."""


def recorded_options(context: typer.Context) -> list[str]:
    """The options that the user gave to a command `nas import`.

    The report explains the placeholders that replace the names of files: RUN/space.yaml for a space file, and
    CLASSES for a list of classes.
    """
    recorded = []
    for parameter in context.command.params:
        source = context.get_parameter_source(str(parameter.name))
        name = parameter.opts[0]
        if source is None or source.name == "DEFAULT" or not name.startswith("--") or name in _PARTICULAR:
            continue
        given = context.params[str(parameter.name)]
        for value in given if isinstance(given, list | tuple) else [given]:
            recorded += [name, _placeholder(name, value)]
    return recorded


def _placeholder(name: str, value: object) -> str:
    if name == "--space" and str(value).endswith((".yaml", ".yml")):
        return f"RUN/{SPACE}"
    return name.removeprefix("--").upper() if isinstance(value, Path) else str(value)
