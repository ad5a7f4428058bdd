"""The report as a step of a run: reads the test split once, gathers what was written, makes one page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from hw_profiles.store import Device
from nas.assessment.final_test import final_test
from nas.assessment.predictor_record import PredictorRecord
from nas.progress import Progress, silent
from nas.report import ReportData, write_report
from nas.report.data import FigureOfMerit
from nas.report.figures_of_merit import (
    accuracy_figures,
    certificate_figures,
    hypervolume_figures,
    latency_figures,
    predictor_figures,
    test_hypervolume,
)
from nas.run_dir import BASELINE, FRONT, PREDICTOR, REPORT, SEARCH, TEST, TRAINING_LOG, Folder
from nas.run_lock import writes_run
from nas.trained_run import TrainedRun
from search_spaces import Arch


@writes_run
def report_run(
    trained: TrainedRun,
    *,
    device: str | None = None,
    extra: Sequence[FigureOfMerit] = (),
    progress: Progress = silent,
) -> tuple[Path, list[FigureOfMerit]]:
    """Write the report of a run, beside the results of the device's search where there is one.

    Args:
        trained: the run.
        device: whose search is reported; None: the device that was searched last.
        extra: more figures for the report's table.
        progress: hears about evaluations on the test split.

    Returns:
        Path of the page, and its figures.

    Raises:
        ValueError: the run was not searched for the device, or a file of the run is damaged.
    """
    run = trained.run
    searched = device is not None or run.last_device is not None
    results = run.search(device) if searched else None
    search = results.read_json(SEARCH) if results else {}
    front, baseline = _table(results, FRONT), _table(results, BASELINE)
    chosen = [Arch.from_json(t) for table in (front, baseline) if table is not None for t in table["arch"]]
    test = final_test(trained, chosen, progress=progress)
    folder = results or run
    folder.write_csv(TEST, test)
    profiled = trained.device(device)
    predictor = results.read_model(PREDICTOR, PredictorRecord) if results else None

    figures = accuracy_figures(test)
    volumes: dict[str, float] = {}
    if predictor is not None:
        figures += predictor_figures(predictor)
    if profiled is not None:
        figures += latency_figures(profiled.profile)
    reference = search.get("reference", {})
    if front is not None and baseline is not None and {"cross_entropy", "latency_ms"} <= reference.keys():
        volumes = {
            f"{search['algorithm']} (test split, measured latency)": test_hypervolume(front, test, reference),
            "random search": test_hypervolume(baseline, test, reference),
        }
        figures += hypervolume_figures(volumes)
    if search.get("certificate"):
        figures += certificate_figures(search["certificate"])
    figures += extra
    data = ReportData(
        run=trained.info,
        space=trained.space,
        training=_table(run, TRAINING_LOG),
        evaluations=_evaluations(trained, profiled),
        front=front,
        baseline=baseline,
        test=test,
        predictor=_predictor(predictor),
        latency=profiled.held_out if profiled else None,
        profile=profiled.profile.model_dump(mode="json") if profiled else None,
        hypervolume=volumes,
        reference_point=reference,
        figures=figures,
        files={p.stem: p.name for p in sorted(run.exports(search.get("device")).path.glob("*.onnx"))},
    )
    folder.write_text(REPORT, write_report(data))
    return folder.file(REPORT), figures


def _table(folder: Folder | None, name: str) -> pd.DataFrame | None:
    return folder.read_csv(name) if folder and folder.has(name) else None


def _evaluations(trained: TrainedRun, device: Device | None) -> pd.DataFrame:
    """The archive with the computed costs of each subnet."""
    frame, space = trained.archive.frame(), trained.space
    genomes = space.encode([Arch.from_json(text) for text in frame["arch"]])
    frame["macs"], frame["params"] = space.macs_table(genomes), space.params_table(genomes)
    if device is not None:
        frame["latency_ms"] = device.latency(space)(genomes)
    return frame


def _predictor(record: PredictorRecord | None) -> dict[str, Any] | None:
    if record is None:
        return None
    content = record.model_dump()
    return content | {"held_out": pd.DataFrame(content["held_out"])}
