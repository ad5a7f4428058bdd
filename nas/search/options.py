"""The options of a search."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

DEFAULT_BUDGET = 200
"""Real evaluations of a search."""
UNLIMITED_BUDGET = 10_000
"""The same if only the time is limited."""


@dataclass(frozen=True)
class SearchOptions:
    """Options of a search.

    Raises:
        ValueError: the minutes are not a finite number above 0.
    """

    objectives: Sequence[str] = ()
    """Names as in `nas.search.problem.objectives.get`; none: the task's primary metric and the latency."""
    maxima: Sequence[str] = ()
    """Upper limits such as `latency_ms=2`."""
    minima: Sequence[str] = ()
    """Lower limits such as `accuracy=0.95`."""
    algorithm: str = "iterative"
    """As in `nas.search.search_loop.search`."""
    predictors: Sequence[str] = ()
    """Names of the candidates, or `module:object`; none: `predictors.CANDIDATES`."""
    budget: int | None = None
    """Real evaluations, including those for fitting and for validation; None: `DEFAULT_BUDGET`, or as many as
    `minutes` allow."""
    minutes: float | None = None
    """Time for all evaluations: half of it for the search, the rest for the random baseline and the
    predictor's record, which may be smaller then or missing. Evaluations that have begun are finished, and 10
    are made in any case. Measuring on the device comes after it."""
    warm_start: Path | None = None
    """A searched run, or the table of a front (CSV), whose subnets are evaluated first."""
    seed: int = 0
    """Of everything random."""

    def __post_init__(self) -> None:
        if self.minutes is not None and not 0 < self.minutes < math.inf:
            raise ValueError(f"--minutes must be a finite number > 0, got {self.minutes:g}")

    @property
    def evaluations(self) -> int:
        """The largest number of real evaluations."""
        if self.budget is not None:
            return self.budget
        return DEFAULT_BUDGET if self.minutes is None else UNLIMITED_BUDGET

    def deadline(self, began: float, share: float = 1.0) -> float | None:
        """The time, as of `time.monotonic`, at which a share of the minutes is over; None without limit."""
        return None if self.minutes is None else began + share * 60 * self.minutes
