"""Tables in CSV files."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from search_spaces.text_files import read_text

TEXT_COLUMNS = frozenset({"arch_id", "arch", "data", "model_id", "block_key", "key"})
"""Columns that are text even if all values look like numbers, such as the ids 1234567890123456 and 12e3."""
NUMBER_COLUMNS = re.compile(r".*_ms|macs|params")
"""Columns that are numbers in every table."""
SEPARATORS = (",", ";", "\t")


def read_table(
    path: Path,
    columns: Sequence[str] = (),
    *,
    comment: str | None = None,
    is_number: Callable[[str], object] = NUMBER_COLUMNS.fullmatch,
) -> pd.DataFrame:
    """Read a CSV file; the index is the line number of each row.

    A column holds numbers or booleans if all its values are numbers or booleans and it is not in
    `TEXT_COLUMNS`; otherwise it holds text. Empty values are NaN. The separator (comma, semicolon or tab) is
    detected from the header.

    Args:
        path: the file.
        columns: columns that the table must have.
        comment: lines that begin with this text are skipped.
        is_number: whether a column, by its name, must hold numbers or booleans.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file is not text, lacks a column, has two columns of one name, a row of another
            length, or text in a column of numbers; the message names the file and the line.
    """
    lines = [
        (number, line)
        for number, line in enumerate(read_text(path).split("\n"), 1)
        if line.strip() and not (comment and line.lstrip().startswith(comment))
    ]
    if not lines:
        raise ValueError(f"{path} must be a table with a header, it is empty")
    header_line = lines[0][1]
    separator = max(SEPARATORS, key=header_line.count)
    header, *rows = (_fields(path, number, line, separator) for number, line in lines)
    missing = [name for name in columns if name not in header]
    if missing or len(set(header)) < len(header):
        wanted = f"have the columns {','.join(columns)}" if missing else "name each column once"
        raise ValueError(f"{path}, line {lines[0][0]}: the table must {wanted}, got {','.join(header)}")
    for (number, _), row in zip(lines[1:], rows, strict=True):
        if len(row) != len(header):
            raise ValueError(
                f"{path}, line {number}: a row must have {len(header)} values as the header has, "
                f"got {len(row)}"
            )
    frame = pd.DataFrame(rows, columns=header, index=[number for number, _ in lines[1:]], dtype=str)
    typed = frame.apply(_typed) if rows else frame
    for name in filter(is_number, header if rows else ()):
        if not pd.api.types.is_numeric_dtype(typed[name]):
            wrong = pd.to_numeric(frame[name], errors="coerce").isna() & (frame[name] != "")
            line = frame.index[wrong][0]
            raise ValueError(f"{path}, line {line}: {name} must be a number, got {frame[name][line]!r}")
    return typed


def _fields(path: Path, number: int, line: str, separator: str) -> list[str]:
    try:
        row = next(csv.reader([line], delimiter=separator, skipinitialspace=True))
    except csv.Error as error:  # a very long value, as in a file of another kind
        raise ValueError(f"{path}, line {number}: the row cannot be read: {error}") from None
    return [value.strip() for value in row]


def _typed(values: pd.Series) -> pd.Series:
    """Convert the values of a column to integers, floats or booleans if all can be converted."""
    values = values.where(values != "")  # empty values become NaN
    known = values.dropna()
    if values.name in TEXT_COLUMNS:
        return values
    if len(known) and set(known) <= {"True", "False"}:
        booleans = values.map({"True": True, "False": False})
        return booleans if len(known) < len(values) else booleans.astype(bool)
    for kind in (np.int64, np.float64):
        try:
            return values.astype(kind)
        except (ValueError, OverflowError):  # NaN or text is not an integer, text is not a number
            continue
    return values
