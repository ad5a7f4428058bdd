"""The results of a search for each of its devices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from hw_profiles.device import Device
from nas.search.certificate import Certificate
from nas.search.cost import SearchCost
from nas.search.minimax_regret import MinimaxRegret
from nas.search.predictor_record import PredictorRecord
from nas.search.search_result import SearchResult
from nas.search.stored_surrogate import StoredSurrogate
from nas.search.validated_search import Validated
from search_spaces import Arch


@dataclass(frozen=True)
class DeviceOutcome:
    """The results of a search for one device."""

    device: Device
    result: SearchResult
    """The evaluations, with the objectives and limits that concern this device."""
    random: SearchResult | None
    """The result of random search with as many evaluations, or fewer if the time was up; None: no
    baseline."""
    validated: Validated
    """The fronts of `result` and `random`, as measured or predicted on the device."""
    warnings: list[str]
    """Warnings about the predicted latencies."""
    certificate: Certificate | None
    """None if an objective or a limit does not add up over slots."""

    @property
    def name(self) -> str:
        """Name of the device."""
        return self.device.profile.name

    @property
    def evaluations(self) -> pd.DataFrame:
        """All evaluations of `result` with the latencies of the device."""
        return self.validated.evaluations

    @property
    def front(self) -> pd.DataFrame:
        """The non-dominated subnets as measured on the device, or as predicted: see `Validation.front`."""
        return self.validated.fronts[0]

    @property
    def baseline(self) -> pd.DataFrame | None:
        """The front of random search."""
        return self.validated.fronts[1] if self.random else None

    @property
    def waiting(self) -> int:
        """Subnets of the fronts that are not measured yet."""
        return self.validated.waiting


@dataclass(frozen=True)
class SearchOutcome:
    """All results of a search."""

    own: DeviceOutcome
    """For the first device, which is measured."""
    others: tuple[DeviceOutcome, ...]
    """For each further device, by the latencies of its profile."""
    no_baseline: str
    """The reason if a random baseline was requested and is missing."""
    predictor: PredictorRecord | None
    """None if the search used no predictor."""
    cost: SearchCost
    """The cost that was estimated before the search."""
    surrogate: StoredSurrogate
    """Metrics as sums over slots, for `nas pick`."""
    minimax_regret: MinimaxRegret | None
    """With further devices: the best single subnet for all of them, a row of `result.evaluations`."""

    @property
    def front(self) -> pd.DataFrame:
        """The front of the first device."""
        return self.own.front

    @property
    def baseline(self) -> pd.DataFrame | None:
        """The front of random search on the first device."""
        return self.own.baseline

    @property
    def result(self) -> SearchResult:
        """The evaluations of the search, with the objectives and limits of the first device."""
        return self.own.result

    @property
    def random(self) -> SearchResult | None:
        """The evaluations of random search, with the objectives and limits of the first device."""
        return self.own.random

    @property
    def fronts(self) -> Mapping[str, pd.DataFrame]:
        """Fronts of the further devices, by name."""
        return {other.name: other.front for other in self.others}

    @property
    def best_for_all(self) -> dict[str, Any] | None:
        """`arch_id`, `arch` (JSON) and `regret` by device of the best single subnet."""
        if self.minimax_regret is None:
            return None
        row = self.result.evaluations.iloc[self.minimax_regret.row]
        arch: Arch = row["arch"]
        return {"arch_id": arch.id, "arch": arch.to_json(), "regret": dict(self.minimax_regret.regret)}
