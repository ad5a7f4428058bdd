"""`surrogate.json`: metrics as sums over slots, so that later steps can predict without fitting a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

import numpy as np
from pydantic import BaseModel

from search_spaces import SlotTable, Space


class StoredMetric(BaseModel):
    """The surrogate of one metric: a constant plus one table entry for each slot."""

    tau: float
    """Kendall's τ-b between predictions and values in cross-validation."""
    rmse: float
    """Root mean squared error of the same predictions, in the metric's unit."""
    offset: float
    slots: list[list[float]]
    """As `SlotTable.entries`."""

    def table(self, space: Space) -> SlotTable:
        """The predictor."""
        return SlotTable(space, [np.array(entries) for entries in self.slots], self.offset)

    @classmethod
    def of(cls, table: SlotTable, tau: float, rmse: float) -> Self:
        """The plain values of a fitted table."""
        slots = [entries.tolist() for entries in table.entries]
        return cls(tau=tau, rmse=rmse, offset=table.offset, slots=slots)


class StoredSurrogate(BaseModel):
    """The surrogates of all metrics of a run."""

    n_train: int
    """Number of evaluations to which the surrogates were fitted."""
    metrics: Mapping[str, StoredMetric]
