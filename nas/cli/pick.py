"""The command `nas pick`, which selects subnets for a device without a new search."""

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
            metavar="NAME",
            help="A device profile, of any device.",
            show_default="the device of the last search",
        ),
    ] = None,
    profiles: ProfilesOption = None,
    maxima: Annotated[
        list[str] | None,
        typer.Option("--max", metavar="NAME=NUMBER", help="Upper limit, such as latency_ms=3."),
    ] = None,
    minima: Annotated[
        list[str] | None,
        typer.Option("--min", metavar="NAME=NUMBER", help="Lower limit, such as accuracy=0.95."),
    ] = None,
    objective: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODULE:OBJECT",
            help="A custom objective of the search; may be repeated.",
        ),
    ] = None,
    allow_import: AllowImport = False,
    how: Annotated[
        str,
        typer.Option(
            "--pick",
            help="first or last (best in the search's first or last objective), knee (best compromise), "
            "spread (five over the whole front), all, or ids of subnets separated by commas.",
        ),
    ] = "first",
    as_json: JsonOption = False,
) -> None:
    """Show the best evaluated subnets for a device without a new search, and which numbers are measured."""
    from nas.devices.find_device import find_device
    from nas.runs.run_dir import RunDir
    from nas.search.known_front import known_front
    from nas.search.select import select

    run_dir = RunDir.open(run)
    run_dir.search()  # raises an error if the run was not searched
    profiled = find_device(run_dir, device or str(run_dir.last_device), profiles)
    front, minimised = known_front(
        run_dir,
        profiled,
        maxima=maxima or (),
        minima=minima or (),
        objectives=objective or (),
        allow_import=allow_import,
    )
    rows = select(front, minimised, how)
    archs = [arch.to_json() for arch in rows["arch"]]
    shown = rows.assign(arch=archs) if as_json else rows.drop(columns="arch")
    show(records(shown), as_json)
