"""The content of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from nas.runs.records import RunInfo
from nas.search.predictor_record import PredictorRecord
from nas.tasks import Task
from search_spaces import Space

MAX_CHOSEN = 6
"""Number of subnets that a report shows in detail if none was exported."""

FigureOfMerit = tuple[str, float, str, str]
"""Name, value, unit and target."""


@dataclass(frozen=True)
class ReportData:
    """The results of a run. For None and empty values, the report shows the command that makes them.

    Tables of subnets have the columns `arch_id`, `arch` and one for each metric that the task shows.
    Latencies are in ms, `macs` are for one image.
    """

    run: RunInfo
    space: Space
    task: Task
    training: pd.DataFrame | None = None
    """Rows of `step`, `lr`, and `loss_`, `METRIC_`, `macs_` of `largest`, `smallest` and `random` subnets."""
    evaluations: pd.DataFrame | None = None
    """The archive of evaluations, with the predicted `latency_ms`, `macs` and `params`."""
    front: pd.DataFrame | None = None
    """The subnets that the search returned, or the fine-tuned subnet: `predicted_METRIC`, the metrics, the
    predicted `latency_ms`, `measured_latency_ms` (NaN: not measured), `macs`, `params`."""
    baseline: pd.DataFrame | None = None
    """The front of random search with as many evaluations, if there was one; columns as in `front`."""
    test: pd.DataFrame | None = None
    """The metrics on the test split."""
    predictor: PredictorRecord | None = None
    """The quality of the predictor of the search, if it used one."""
    predictions: pd.DataFrame | None = None
    """The predictions of the predictor's metric; see `nas.search.algorithms.prediction_log`."""
    latency: pd.DataFrame | None = None
    """Held-out subnets: `predicted_latency_ms`, `measured_latency_ms`."""
    profile: Mapping[str, Any] | None = None
    """A `hw_profiles.profile.DeviceProfile` as plain values."""
    hypervolume: Mapping[str, float] = field(default_factory=dict)
    """Hypervolume by method, the search first; the other methods have as many evaluations."""
    comparison: pd.DataFrame | None = None
    """Other models: `model`, `latency_ms`, `accuracy` on the test split."""
    reference_point: Mapping[str, float] = field(default_factory=dict)
    """Reference point of the hypervolume: value of each objective."""
    figures: Sequence[FigureOfMerit] = ()
    files: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Names of the files of each exported subnet, by `arch_id`."""

    def chosen(self) -> pd.DataFrame | None:
        """The exported rows of the front; if there are none, up to `MAX_CHOSEN` spread over the front."""
        if self.front is None or self.front.empty:
            return None
        exported = self.front[self.front["arch_id"].isin(list(self.files))]
        if len(exported):
            return exported
        last, n = len(self.front) - 1, min(MAX_CHOSEN, len(self.front))
        return self.front.iloc[[round(i * last / max(1, n - 1)) for i in range(n)]]
