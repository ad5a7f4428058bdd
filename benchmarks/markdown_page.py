"""Helpers for commands that generate pages of the documentation."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypeVar

Row = TypeVar("Row")


def markdown_table(columns: Mapping[str, Callable[[Row], str]], rows: Iterable[Row]) -> str:
    """A table in Markdown; each column has a title and a function that returns the text for a row."""
    lines = [list(columns), ["---"] * len(columns)]
    lines += [[column(row) for column in columns.values()] for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def print_or_write(page: Callable[[], str], description: str | None) -> None:
    """Print a page, or write it to the file in the command line."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--write", type=Path, metavar="FILE")
    file: Path | None = parser.parse_args().write
    if file:
        file.write_text(page(), encoding="utf-8")
    else:
        print(page(), end="")
