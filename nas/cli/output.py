"""How commands print: tables for people, JSON for programs."""

from __future__ import annotations

import json
import math
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table, as `show` and `print_json` take them."""
    return [{str(column): value for column, value in row.items()} for row in table.to_dict("records")]


def show(rows: list[dict[str, Any]], as_json: bool) -> None:
    """Print rows as a table, or as JSON."""
    if as_json:
        print_json(rows)
        return
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if not console.is_terminal:
        console.width = 200  # a log does not wrap
    table = Table(*(rows[0] if rows else ()))
    for row in rows:
        table.add_row(*map(_cell, row.values()))
    console.print(table)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def print_json(content: Any) -> None:
    """Print a value as one line of JSON; numbers that JSON does not have become null."""
    line(json.dumps(_finite(content), allow_nan=False))


def _finite(content: Any) -> Any:
    """The content with null for what JSON has no number for."""
    if isinstance(content, dict):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def line(text: str) -> None:
    """Print one line."""
    sys.stdout.write(text + "\n")
