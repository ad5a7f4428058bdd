"""Tables of subnets: the column `arch` holds `Arch` values in memory and JSON text on disk."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import pandas as pd

from hw_profiles.csv_tables import read_table
from search_spaces import Arch

ARCH = "arch"
EVALUATED_AS = "evaluated_as"
"""Column with the precision in which the metrics of a row were evaluated, such as `int8 accuracy`."""
PRECISION = "precision"
"""Column with the precision of the blocks of a subnet, if it is a choice; see `precision_text`."""


def accuracy_in(precision: str) -> str:
    """The value of `EVALUATED_AS` for a precision."""
    return f"{precision} accuracy"


def predicted_in(precision: str) -> str:
    """The value of `EVALUATED_AS` for metrics in fp32 plus the predicted change by a precision."""
    return f"predicted {accuracy_in(precision)}"


def read_subnets(
    path: Path, columns: Sequence[str] = (), texts: Collection[str] | None = None
) -> pd.DataFrame:
    """Content of a CSV file, with `Arch` values in the column `arch`, if it exists.

    Args:
        path: the file.
        columns: required columns.
        texts: the text columns; all other columns must be numbers or booleans. None: as in `read_table`.

    Returns:
        A table whose index has the line numbers.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file is not a valid table; the message names the file and the line.
    """
    if texts is None:
        frame = read_table(path, columns)
    else:
        frame = read_table(path, columns, is_number=lambda name: name not in texts)
    return with_archs(frame, str(path)) if ARCH in frame else frame


def with_archs(frame: pd.DataFrame, source: str) -> pd.DataFrame:
    """Convert the column `arch` of a table from JSON text to `Arch` values.

    Args:
        frame: the table; its index has the line numbers.
        source: name of the file, for error messages.

    Raises:
        ValueError: a text is not an arch.
    """
    archs = [Arch.from_json(str(text), f"{source}, line {line}") for line, text in frame[ARCH].items()]
    return frame.assign(**{ARCH: pd.Series(archs, frame.index, dtype=object)})


def csv_text(frame: pd.DataFrame) -> str:
    """The text of a CSV file with the table, with `Arch` values as JSON."""
    if ARCH in frame:
        frame = frame.assign(**{ARCH: [arch.to_json() for arch in frame[ARCH]]})
    return frame.to_csv(index=False)
