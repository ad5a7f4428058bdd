"""`nas pick`: subnets for a device without a search."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nas.cli.options import AllowImport, JsonOption, ProfilesOption
from nas.cli.output import records, show


def pick(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run directory that was searched.")],
    device: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="A device profile, of any device.", show_default="the last one searched"
        ),
    ] = None,
    profiles: ProfilesOption = None,
    max: Annotated[
        list[str] | None, typer.Option(metavar="NAME=NUMBER", help="Upper limit, such as latency_ms=3.")
    ] = None,
    min: Annotated[
        list[str] | None, typer.Option(metavar="NAME=NUMBER", help="Lower limit, such as accuracy=0.95.")
    ] = None,
    objective: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODULE:OBJECT",
            help="Give an objective of your own that the run was searched with again; may be repeated.",
        ),
    ] = None,
    allow_import: AllowImport = False,
    how: Annotated[
        str,
        typer.Option(
            "--pick",
            help="first or last (best in the search's first or last objective), knee (best compromise), "
            "spread (five from end to end), all, or ids of subnets with commas between.",
        ),
    ] = "first",
    json: JsonOption = False,
) -> None:
    """Name the best known subnets for a device at once, each with whether its numbers are measured."""
    from nas.devices.find_device import find_device
    from nas.runs.run_dir import RunDir
    from nas.search.known_front import known_front
    from nas.search.select import select

    opened = RunDir.open(run)
    opened.search()  # must have been searched before a device is looked up
    found = find_device(opened, device or str(opened.last_device), profiles)
    front, minimised = known_front(
        opened,
        found,
        maxima=max or (),
        minima=min or (),
        objectives=objective or (),
        allow_import=allow_import,
    )
    rows = select(front, minimised, how)
    archs = [arch.to_json() for arch in rows["arch"]]
    shown = rows.assign(arch=archs) if json else rows.drop(columns="arch")
    show(records(shown), json)
