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
from nas.run_dir import BASELINE, EXPORTS, FRONT, PREDICTOR, REPORT, SEARCH, TRAINING_LOG, RunDir
from nas.trained_run import TrainedRun
from search_spaces import Arch


def report_run(
    trained: TrainedRun, *, extra: Sequence[FigureOfMerit] = (), progress: Progress = silent
) -> tuple[Path, list[FigureOfMerit]]:
    """Write the run's report.

    Args:
        trained: the run.
        extra: more figures for the report's table.
        progress: hears about evaluations on the test split.

    Returns:
        Path of the page, and its figures.

    Raises:
        ValueError: a file of the run is damaged.
    """
    run = trained.run
    search = run.read_json(SEARCH) if run.has(SEARCH) else {}
    front, baseline = _table(run, FRONT), _table(run, BASELINE)
    chosen = [Arch.from_json(t) for table in (front, baseline) if table is not None for t in table["arch"]]
    test = final_test(trained, chosen, progress=progress)
    device = trained.device()
    predictor = run.read_model(PREDICTOR, PredictorRecord) if run.has(PREDICTOR) else None

    figures = accuracy_figures(test)
    volumes: dict[str, float] = {}
    if predictor is not None:
        figures += predictor_figures(predictor)
    if device is not None:
        figures += latency_figures(device.profile)
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
        evaluations=_evaluations(trained, device),
        front=front,
        baseline=baseline,
        test=test,
        predictor=_predictor(predictor),
        latency=device.held_out if device else None,
        profile=device.profile.model_dump(mode="json") if device else None,
        hypervolume=volumes,
        reference_point=reference,
        figures=figures,
        files={path.stem: path.name for path in sorted(run.file(EXPORTS).glob("*.onnx"))},
    )
    run.write_text(REPORT, write_report(data))
    return run.file(REPORT), figures


def _table(run: RunDir, name: str) -> pd.DataFrame | None:
    return run.read_csv(name) if run.has(name) else None


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
