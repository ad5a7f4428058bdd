"""`nas pick`: subnets for a device without a search."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas.cli.options import JsonOption
from nas.cli.output import records, show

if TYPE_CHECKING:
    from hw_profiles.store import Device
    from nas.run_dir import RunDir


def pick(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run directory that was searched.")],
    device: Annotated[str, typer.Option(metavar="NAME", help="A device profile, of any device.")],
    profiles: Annotated[
        Path | None,
        typer.Option(help="Folder of device profiles.", show_default="in your data folder, then the run's"),
    ] = None,
    max: Annotated[
        list[str] | None, typer.Option(metavar="NAME=NUMBER", help="Upper limit, such as latency_ms=3.")
    ] = None,
    min: Annotated[
        list[str] | None, typer.Option(metavar="NAME=NUMBER", help="Lower limit, such as accuracy=0.95.")
    ] = None,
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
    from nas.run_dir import RunDir
    from nas.search.lookup import lookup
    from nas.search.pick import pick as pick_rows

    opened = RunDir.open(run)
    found = _device(opened, device, profiles)
    front, minimised = lookup(opened, found, maxima=max or (), minima=min or ())
    rows = pick_rows(front, minimised, how)
    shown = rows if json else rows.drop(columns="arch")
    show(records(shown), json)


def _device(run: RunDir, name: str, profiles: Path | None) -> Device:
    """The device of this name: among the user's profiles, or the run's copy of it."""
    from hw_profiles.store import ProfileStore, read_device
    from nas.run_dir import PROFILES

    store, copy = ProfileStore(profiles), run.file(PROFILES) / name
    if name not in store.names() and copy.is_dir():
        return read_device(copy)
    return store.load(name)
