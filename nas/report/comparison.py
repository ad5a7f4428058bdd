"""Other models to compare with the front of a run, from a CSV file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from hw_profiles.csv_tables import read_table

ACCURACY = "accuracy"
"""The column of the file, and the objective of a task with which the column is compared."""
COLUMNS = ("model", "latency_ms", ACCURACY)


def read_comparison(path: Path) -> pd.DataFrame:
    """The models of a CSV file with the columns `model`, `latency_ms` and `accuracy`, a share from 0 to 1.

    Raises:
        ValueError: the file cannot be read, lacks a column, has no rows, or a value is out of range.
    """
    try:
        table = read_table(path, COLUMNS, is_number=lambda name: name in COLUMNS[1:])
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror or error}") from None
    if table.empty:
        raise ValueError(f"{path} must have a row for each model, it has only a header")
    for line, row in table.iterrows():
        if pd.isna(row["model"]):
            raise ValueError(f"{path}, line {line}: model must be the name of the model, it is empty")
        if not 0 < row["latency_ms"] < np.inf:
            raise ValueError(f"{path}, line {line}: latency_ms must be above 0, got {row['latency_ms']}")
        if not 0 <= row["accuracy"] <= 1:
            raise ValueError(
                f"{path}, line {line}: accuracy must be a share from 0 to 1, such as 0.935 for 93.5 %, "
                f"got {row['accuracy']}"
            )
    return table[list(COLUMNS)].astype({"model": str, "latency_ms": float, "accuracy": float})


def best_within(front: pd.DataFrame, metric: str, latency_ms: float) -> pd.Series | None:
    """The row of `front` with the highest `metric` among those not slower than `latency_ms`, if any."""
    fast = front[front["latency_ms"] <= latency_ms]
    return None if fast.empty else fast.iloc[int(fast[metric].to_numpy().argmax())]
