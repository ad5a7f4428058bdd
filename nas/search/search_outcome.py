"""What a search found, for each of its devices, and how it is written to the run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from hw_profiles.device import Device
from hw_profiles.device_files import write_device
from nas.evaluation.trained_run import TrainedRun
from nas.runs.files import BASELINE, FRONT, PREDICTOR, PROFILES, SEARCH, SEARCH_CSV, SURROGATE
from nas.search.certificate import Certificate
from nas.search.minimax_regret import MinimaxRegret
from nas.search.predictor_record import PredictorRecord
from nas.search.problem.objectives import OwnObjective
from nas.search.search_problem import metric_objectives
from nas.search.search_result import SearchResult
from nas.search.stored_surrogate import StoredSurrogate
from search_spaces import Arch


@dataclass(frozen=True)
class DeviceOutcome:
    """What a search found for one device."""

    device: Device
    result: SearchResult
    """The evaluations, with the objectives and limits that concern this device."""
    random: SearchResult | None
    """The same of random search with equally many real evaluations, fewer where the time was up; None where
    there is no baseline."""
    evaluations: pd.DataFrame
    """All evaluations of `result` with the latencies of the device."""
    front: pd.DataFrame
    """The non-dominated subnets as measured on the device, or as predicted: see `Validation.front`."""
    baseline: pd.DataFrame | None
    """The same of random search."""
    waiting: int
    """Subnets of the fronts that are not measured yet."""
    warnings: list[str]
    """Warnings about the predicted latencies."""
    certificate: Certificate | None
    """None where an objective does not add up over slots."""

    @property
    def name(self) -> str:
        """Name of the device."""
        return self.device.profile.name


@dataclass(frozen=True)
class SearchOutcome:
    """What a search leaves in its run, as values."""

    own: DeviceOutcome
    """For the first device, which is measured."""
    others: tuple[DeviceOutcome, ...]
    """For each further device, by the latencies of its profile."""
    no_baseline: str
    """Why there is no random baseline; empty where there is one."""
    predictor: PredictorRecord | None
    """None where there were too few subnets, or too little time, to judge a predictor."""
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
        """The evaluations of the search, as the problem of the first device."""
        return self.own.result

    @property
    def random(self) -> SearchResult | None:
        """The evaluations of random search, as the problem of the first device."""
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

    def write(self, trained: TrainedRun, seed: int) -> None:
        """Write one folder of results for each device; the first device counts as the last searched one."""
        for found in (*self.others, self.own):
            self._write(trained, found, seed)
        trained.run.finish_search(self.own.name)
        trained.write_archive_csv()

    def _write(self, trained: TrainedRun, found: DeviceOutcome, seed: int) -> None:
        result, device = found.result, found.device
        write_device(trained.run.file(PROFILES) / found.name, device)
        record: dict[str, Any] = result.record() | {
            "maximised": [o.name for o in result.problem.objectives if o.maximise],
            "metric_objectives": {
                name: asdict(part) for name, part in metric_objectives(trained.task).items()
            },
            "device": found.name,
            "calibration": trained.evaluator().calibration.key,
            "batch": device.profile.key.batch,
            "seed": seed,
            "own_objectives": {
                o.name: o.given for o in result.problem.objectives if isinstance(o, OwnObjective)
            },
            "baseline_hypervolume": found.random.hypervolume if found.random else None,
            "baseline_evaluations": len(found.random.evaluations) if found.random else 0,
            "no_baseline": self.no_baseline,
            "devices": [self.own.name, *self.fronts],
            "best_for_all": self.best_for_all,
            "warnings": found.warnings,
            "certificate": found.certificate.record() if found.certificate else None,
        }
        folder = trained.run.start_search(found.name)
        folder.write_csv(SEARCH_CSV, found.evaluations)
        folder.write_csv(FRONT, found.front)
        for name in (BASELINE, PREDICTOR):
            folder.file(name).unlink(missing_ok=True)
        if found.baseline is not None:
            folder.write_csv(BASELINE, found.baseline)
        if self.predictor:
            folder.write_json(PREDICTOR, self.predictor)
        folder.write_json(SURROGATE, self.surrogate)
        folder.write_json(SEARCH, record)
