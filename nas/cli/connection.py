"""Options that say how a device is reached."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas.cli.output import line, print_json

if TYPE_CHECKING:
    from hw_profiles.connections.base import Connection
    from hw_profiles.connections.external_tool import Tool

_PANEL = "How the device is reached"
ANY = "any"
"""Instead of a serial number: the only device that adb sees."""

SshOption = Annotated[
    str | None,
    typer.Option("--ssh", metavar="USER@HOST[:PORT]", help="Over ssh, by keys.", rich_help_panel=_PANEL),
]
SshOptionsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--ssh-option",
        metavar="KEY=VALUE",
        help="For ssh, such as IdentityFile=~/.ssh/pi; may be repeated.",
        rich_help_panel=_PANEL,
    ),
]
PythonOption = Annotated[
    str | None,
    typer.Option(
        "--remote-python",
        help="Python there, with numpy and onnxruntime.",
        show_default="python3",
        rich_help_panel=_PANEL,
    ),
]
AdbOption = Annotated[
    str | None,
    typer.Option(
        "--adb", metavar="SERIAL", help=f"Over adb; {ANY}: the only device.", rich_help_panel=_PANEL
    ),
]
CommandOption = Annotated[
    str | None,
    typer.Option(
        "--command",
        metavar="'TOOL {onnx}'",
        help="A tool measures whole subnets; with --adb, one on the device.",
        rich_help_panel=_PANEL,
    ),
]
PatternOption = Annotated[
    str | None,
    typer.Option(
        "--latency-pattern",
        metavar="REGEX",
        help="Where the tool's output has the latency; its first group is the number.",
        show_default="as usual tools print it",
        rich_help_panel=_PANEL,
    ),
]
UnitOption = Annotated[
    str,
    typer.Option("--latency-unit", help="Of that number: us, ms or s.", rich_help_panel=_PANEL),
]
RetriesOption = Annotated[
    int,
    typer.Option("--retries", min=0, help="Calls again of a tool that fails.", rich_help_panel=_PANEL),
]
BundleOption = Annotated[
    Path | None,
    typer.Option(
        "--bundle", metavar="DIR", help="Write a folder to carry there by hand.", rich_help_panel=_PANEL
    ),
]
ResultsOption = Annotated[
    Path | None,
    typer.Option(
        "--results",
        metavar="FILE",
        help="Read what came back: results.json, or a CSV model_id,latency_ms.",
        rich_help_panel=_PANEL,
    ),
]
WholeOption = Annotated[
    bool,
    typer.Option(
        "--whole",
        help="With --bundle: whole subnets alone, for tools that cannot time blocks.",
        rich_help_panel=_PANEL,
    ),
]


def connection(
    *,
    ssh: str | None = None,
    ssh_option: list[str] | None = None,
    remote_python: str | None = None,
    adb: str | None = None,
    command: str | None = None,
    latency_pattern: str | None = None,
    latency_unit: str = "ms",
    retries: int = 2,
    bundle: Path | None = None,
    results: Path | None = None,
    whole: bool = False,
) -> Connection | None:
    """What the options say; None: nothing.

    Raises:
        ValueError: they contradict each other, or one is wrong.
    """
    from hw_profiles.connections.adb import Adb
    from hw_profiles.connections.external_tool import Command
    from hw_profiles.connections.offline_bundle import OfflineBundle
    from hw_profiles.connections.ssh import Ssh

    tool = _tool(command, latency_pattern, latency_unit, retries) if command else None
    found: dict[str, Connection] = {}
    if ssh:
        found["--ssh"] = Ssh.parse(ssh, ssh_option or (), remote_python)
    if adb:
        python = {"python": remote_python} if remote_python else {}
        found["--adb"] = Adb(serial=None if adb == ANY else adb, tool=tool, **python)
    elif tool:
        found["--command"] = Command(tool=tool)
    if bundle:
        found["--bundle"] = OfflineBundle(out=bundle, whole=whole)
    if results:
        found["--results"] = OfflineBundle(results=results)
    if len(found) > 1:
        raise ValueError(f"a device is reached in one way, got {' and '.join(found)}")
    return next(iter(found.values()), None)


@contextmanager
def exit_if_offline(as_json: bool) -> Iterator[None]:
    """Where a person has to carry something next, say so and end well."""
    from hw_profiles.connections.base import NotMeasuredError

    try:
        yield
    except NotMeasuredError as told:
        if as_json:
            print_json({"waiting": str(told)})
        else:
            line(str(told))
        raise typer.Exit from None


def _tool(command: str, pattern: str | None, unit: str, retries: int) -> Tool:
    from pydantic import ValidationError

    from hw_profiles.connections.external_tool import Tool
    from hw_profiles.connections.latency_text import LatencyPattern
    from search_spaces.errors import one_line

    try:
        told = LatencyPattern(regex=pattern, unit=unit) if pattern else None
        return Tool(template=command, pattern=told, retries=retries)
    except ValidationError as error:
        raise ValueError(one_line(error, "--command")) from None
