"""Options for the connection to a device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas.cli.output import line, print_json

if TYPE_CHECKING:
    from hw_profiles.connections.base import Connection
    from hw_profiles.connections.external_tool import Tool

_PANEL = "Connection to the device"
ANY = "any"
"""Value of `--adb` for the only device that adb lists, instead of a serial number."""

BundleOption = Annotated[
    Path | None,
    typer.Option(
        "--bundle",
        metavar="DIR",
        help="No connection: write a folder to copy to the device.",
        rich_help_panel=_PANEL,
    ),
]
ResultsOption = Annotated[
    Path | None,
    typer.Option(
        "--results",
        metavar="FILE",
        help="Read the results of --bundle: results.json, or a CSV model_id,latency_ms.",
        rich_help_panel=_PANEL,
    ),
]


@dataclass(frozen=True)
class ConnectionOptions:
    """The options of a command that measures a device."""

    ssh: Annotated[
        str | None,
        typer.Option(
            "--ssh", metavar="USER@HOST[:PORT]", help="Connect by ssh, with keys.", rich_help_panel=_PANEL
        ),
    ] = None
    ssh_option: Annotated[
        list[str] | None,
        typer.Option(
            "--ssh-option",
            metavar="KEY=VALUE",
            help="Option of ssh, such as IdentityFile=~/.ssh/pi; may be repeated.",
            rich_help_panel=_PANEL,
        ),
    ] = None
    remote_python: Annotated[
        str | None,
        typer.Option(
            "--remote-python",
            help="Python interpreter on the device, with numpy and onnxruntime.",
            show_default="python3",
            rich_help_panel=_PANEL,
        ),
    ] = None
    adb: Annotated[
        str | None,
        typer.Option(
            "--adb", metavar="SERIAL", help=f"Connect by adb; {ANY}: the only device.", rich_help_panel=_PANEL
        ),
    ] = None
    command: Annotated[
        str | None,
        typer.Option(
            "--command",
            metavar="'TOOL {onnx}'",
            help="A tool that measures whole subnets; with --adb, a tool on the device.",
            rich_help_panel=_PANEL,
        ),
    ] = None
    latency_pattern: Annotated[
        str | None,
        typer.Option(
            "--latency-pattern",
            metavar="REGEX",
            help="Finds the latency in the output of the tool; its first group is the number.",
            show_default="formats of common tools",
            rich_help_panel=_PANEL,
        ),
    ] = None
    latency_unit: Annotated[
        str,
        typer.Option(
            "--latency-unit",
            help="Unit of the number that --latency-pattern finds: us, ms or s.",
            rich_help_panel=_PANEL,
        ),
    ] = "ms"
    retries: Annotated[
        int,
        typer.Option(
            "--retries", min=0, help="Number of further calls when the tool fails.", rich_help_panel=_PANEL
        ),
    ] = 2
    bundle: BundleOption = None
    results: ResultsOption = None
    whole: Annotated[
        bool,
        typer.Option(
            "--whole",
            help="With --bundle: time only whole subnets, for tools that cannot time blocks.",
            rich_help_panel=_PANEL,
        ),
    ] = False

    def connection(self) -> Connection | None:
        """The connection that the options describe; None without options.

        Raises:
            ValueError: several connections are given, or the value of an option is wrong.
        """
        from hw_profiles.connections.adb import Adb
        from hw_profiles.connections.external_tool import Command
        from hw_profiles.connections.offline_bundle import OfflineBundle
        from hw_profiles.connections.ssh import Ssh

        tool = self._tool(self.command) if self.command else None
        connections: dict[str, Connection] = {}
        if self.ssh:
            connections["--ssh"] = Ssh.parse(self.ssh, self.ssh_option or (), self.remote_python)
        if self.adb:
            python = {"python": self.remote_python} if self.remote_python else {}
            connections["--adb"] = Adb(serial=None if self.adb == ANY else self.adb, tool=tool, **python)
        elif tool:
            connections["--command"] = Command(tool=tool)
        if self.bundle:
            connections["--bundle"] = OfflineBundle(out=self.bundle, whole=self.whole)
        if self.results:
            connections["--results"] = OfflineBundle(results=self.results)
        if len(connections) > 1:
            raise ValueError(f"only one connection to a device can be given, got {' and '.join(connections)}")
        return next(iter(connections.values()), None)

    def _tool(self, command: str) -> Tool:
        from pydantic import ValidationError

        from hw_profiles.connections.external_tool import Tool
        from hw_profiles.connections.latency_text import LatencyPattern
        from search_spaces.errors import one_line

        regex = self.latency_pattern
        try:
            pattern = LatencyPattern(regex=regex, unit=self.latency_unit) if regex else None
            return Tool(template=command, pattern=pattern, retries=self.retries)
        except ValidationError as error:
            raise ValueError(one_line(error, "--command")) from None


@contextmanager
def exit_if_offline(as_json: bool) -> Iterator[None]:
    """If the user has to copy a bundle to the device next, print what to do and exit with code 0."""
    from hw_profiles.connections.base import NotMeasuredError

    try:
        yield
    except NotMeasuredError as error:
        if as_json:
            print_json({"waiting": str(error)})
        else:
            line(str(error))
        raise typer.Exit from None
