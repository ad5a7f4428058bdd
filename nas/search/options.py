"""The options of a search."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from search_spaces.precision_space import GRAINS, Grain

DEFAULT_BUDGET = 200
"""Real evaluations of a search."""
UNLIMITED_BUDGET = 10_000
"""Real evaluations of a search if only the time is limited."""
RANDOM = "random"
"""The only baseline so far."""
DEFAULT_INT8, INT8_SHARE = 50, 0.125
"""Evaluations as deployed in a search with mixed precision, and their largest share of all evaluations."""
BASELINE_SHARE = 0.5
"""Share of the time for the search and the noise ceiling; the baseline gets the rest."""


def checked_grain(name: str | None) -> Grain | None:
    """The grain with this name; None: the default.

    Raises:
        ValueError: there is no such grain.
    """
    if name is None:
        return None
    if name not in GRAINS:
        raise ValueError(f"--bits must be one of {', '.join(GRAINS)}, got {name!r}")
    return name


@dataclass(frozen=True)
class SearchOptions:
    """Options of a search.

    Raises:
        ValueError: a value out of its range.
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
    """Time for all evaluations; with a baseline, half of it for the search. The noise ceiling and the
    baseline get what is left, so they may be smaller or missing. Evaluations that have begun are finished,
    and 10 are made in any case. Measurements on the device are not included."""
    baseline: str | None = None
    """`random`: evaluate as many random subnets as the search evaluates, for comparison."""
    validation_images: int | None = None
    """Evaluate on a fixed stratified part of the validation images; None: on all."""
    screen_images: int | None = None
    """Evaluate all subnets on this many validation images, then the front and the subnets near it on all
    validation images, see `nas.search.two_stage`; None: evaluate all subnets on all of them."""
    noise_ceiling: int = 0
    """Number of evaluated subnets that are evaluated again with other calibration images. Kendall's τ between
    both evaluations is the highest that a predictor can be expected to reach."""
    warm_start: Path | None = None
    """A searched run, or the table of a front (CSV), whose subnets are evaluated first."""
    bits: Grain | None = None
    """The parts of a network whose precision is searched, for devices with a mixed profile; None: `from`."""
    int8_evaluations: int | None = None
    """With mixed precision: how many of the evaluations are made as deployed, by ONNX Runtime, see
    `nas.search.mixed_evaluation`; the front is evaluated as deployed in addition. None: `DEFAULT_INT8`, at
    most an eighth of all evaluations."""
    seed: int = 0
    """Seed of all random numbers."""

    def __post_init__(self) -> None:
        if self.minutes is not None and not 0 < self.minutes < math.inf:
            raise ValueError(f"--minutes must be a finite number > 0, got {self.minutes:g}")
        if self.baseline not in (None, RANDOM):
            raise ValueError(f"--baseline must be {RANDOM}, got {self.baseline!r}")
        if self.noise_ceiling < 0:
            raise ValueError(f"--noise-ceiling must be >= 0, got {self.noise_ceiling}")
        for option, n in (
            ("--validation-images", self.validation_images),
            ("--screen-images", self.screen_images),
        ):
            if n is not None and n < 1:
                raise ValueError(f"{option} must be >= 1, got {n}")

        checked_grain(self.bits)
        if self.int8_evaluations is not None and not 1 <= self.int8_evaluations <= self.evaluations // 2:
            raise ValueError(
                f"--int8-evaluations must be from 1 to {self.evaluations // 2}, half of all evaluations, "
                f"got {self.int8_evaluations}"
            )

    @property
    def evaluations(self) -> int:
        """The largest number of real evaluations."""
        if self.budget is not None:
            return self.budget
        return DEFAULT_BUDGET if self.minutes is None else UNLIMITED_BUDGET

    @property
    def deployed_evaluations(self) -> int:
        """With mixed precision: the number of evaluations as deployed."""
        if self.int8_evaluations is not None:
            return self.int8_evaluations
        return max(1, min(DEFAULT_INT8, int(INT8_SHARE * self.evaluations)))

    def n_subnets(self, *, mixed: bool) -> int:
        """The largest number of subnets that are evaluated; a subnet evaluated as deployed takes two
        evaluations."""
        return self.evaluations - (self.deployed_evaluations if mixed else 0)

    def search_deadline(self, began: float) -> float | None:
        """As `deadline`, but for the search itself and the noise ceiling."""
        share = BASELINE_SHARE if self.baseline else 1.0
        return None if self.minutes is None else began + share * 60 * self.minutes

    def deadline(self, began: float) -> float | None:
        """The time of `time.monotonic`, in seconds, at which `minutes` are over; None without limit."""
        return None if self.minutes is None else began + 60 * self.minutes
