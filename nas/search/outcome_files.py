"""The files of a search in its run."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from hw_profiles.device_files import write_device
from nas.evaluation.trained_run import TrainedRun
from nas.runs.files import (
    BASELINE,
    FRONT,
    PREDICTIONS,
    PREDICTOR,
    PROFILES,
    SCREENING,
    SEARCH,
    SEARCH_CSV,
    SURROGATE,
)
from nas.search.options import SearchOptions
from nas.search.problem.objectives import OwnObjective
from nas.search.search_outcome import DeviceOutcome, SearchOutcome
from nas.search.search_problem import metric_objectives
from nas.search.search_result import SearchResult
from nas.search.search_space import BITS
from search_spaces.precision_space import Grain, PrecisionSpace


def write_outcome(trained: TrainedRun, outcome: SearchOutcome, options: SearchOptions) -> None:
    """Write one folder of results for each device; the first device counts as the last searched one."""
    for own in (*outcome.others, outcome.own):
        _write(trained, outcome, own, options)
    trained.run.finish_search(outcome.own.name)
    trained.write_archive_csv()


def _write(trained: TrainedRun, outcome: SearchOutcome, own: DeviceOutcome, options: SearchOptions) -> None:
    result, device = own.result, own.device
    write_device(trained.run.file(PROFILES) / own.name, device)
    metrics = metric_objectives(trained.task)
    record: dict[str, Any] = result.record() | {
        "maximised": [o.name for o in result.problem.objectives if o.maximise],
        "metric_objectives": {name: asdict(objective) for name, objective in metrics.items()},
        "device": own.name,
        "calibration": trained.evaluator().key,
        "batch": device.profile.key.batch,
        "seed": options.seed,
        BITS: _grain(result),
        "validation_images": options.validation_images,
        "screen_images": options.screen_images,
        "cost": outcome.cost.record(),
        "own_objectives": {o.name: o.given for o in result.problem.objectives if isinstance(o, OwnObjective)},
        "baseline": baseline_record(own.random),
        "no_baseline": outcome.no_baseline,
        "devices": [outcome.own.name, *outcome.fronts],
        "best_for_all": outcome.best_for_all,
        "warnings": own.warnings,
        "certificate": own.certificate.record() if own.certificate else None,
    }
    folder = trained.run.start_search(own.name)
    folder.write_csv(SEARCH_CSV, own.evaluations)
    folder.write_csv(FRONT, own.front)
    for name in (BASELINE, PREDICTOR, PREDICTIONS, SCREENING):
        folder.file(name).unlink(missing_ok=True)
    if own.baseline is not None:
        folder.write_csv(BASELINE, own.baseline)
    if result.screening is not None:
        folder.write_csv(SCREENING, result.screening)
    if outcome.predictor:
        folder.write_json(PREDICTOR, outcome.predictor)
        folder.write_csv(PREDICTIONS, result.predictions)
    folder.write_json(SURROGATE, outcome.surrogate)
    folder.write_json(SEARCH, record)


def _grain(result: SearchResult) -> Grain | None:
    space = result.problem.space
    return space.grain if isinstance(space, PrecisionSpace) else None


def baseline_record(random: SearchResult | None) -> dict[str, Any] | None:
    """The hypervolume of random search and its number of evaluations; None without baseline."""
    if random is None:
        return None
    return {"hypervolume": random.hypervolume, "evaluations": len(random.evaluations)}
