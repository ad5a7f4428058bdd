"""Writes the report of a run: evaluates on the test split and collects the results of all steps on one
page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from hw_profiles.device import Device
from nas.evaluation.deployed import Target
from nas.evaluation.trained_run import TrainedRun
from nas.progress import Progress, silent
from nas.report import ReportData, write_report
from nas.report.before_training import evaluate_before_training
from nas.report.comparison import ACCURACY, read_comparison
from nas.report.data import FigureOfMerit
from nas.report.figures_of_merit import (
    certificate_figures,
    hypervolume_figures,
    latency_figures,
    predictor_figures,
    quality_figures,
    test_hypervolume,
)
from nas.report.final_test import final_test
from nas.runs.files import (
    BASELINE,
    EXPORTS,
    FRONT,
    ONNX,
    PREDICTIONS,
    PREDICTOR,
    REPORT,
    SEARCH,
    SEARCH_CSV,
    TEST,
    TORCH,
    TRAINING_LOG,
)
from nas.runs.folder import Folder
from nas.runs.lock import writes_run
from nas.runs.run_dir import RunDir
from nas.search.predictor_record import PredictorRecord
from nas.search.search_space import in_floating_point, searched_space
from search_spaces import Arch, Space
from search_spaces.costs import macs_table, params_table
from search_spaces.precision_space import PrecisionSpace


@writes_run
def report_run(
    trained: TrainedRun,
    *,
    device: str | None = None,
    extra: Sequence[FigureOfMerit] = (),
    targets: Mapping[str, str] | None = None,
    out: Path | None = None,
    compare: Path | None = None,
    progress: Progress = silent,
) -> tuple[Path, list[FigureOfMerit]]:
    """Write the report of a run, to the folder of the device's search or to the run.

    Args:
        trained: the run.
        device: device of the search; None: the device of the last search.
        extra: additional figures for the table of the report.
        targets: targets of figures by name, such as `>= 97`.
        out: folder to write to; None: the folder of the device's search, or the run if it was not searched.
        compare: CSV file of other models to show next to the front, see `nas.report.comparison`.
        progress: called after each evaluation on the test split.

    Returns:
        Path of the page, and its figures.

    Raises:
        ValueError: the run was not searched for the device, or a file of the run or `compare` is damaged.
    """
    run, task = trained.run, trained.task
    comparison = _comparison(trained, compare) if compare else None
    searched = device is not None or run.last_device is not None
    results = run.search(device) if searched else None
    search = results.read_json(SEARCH) if results else {}
    space = searched_space(trained.space, search)
    front, baseline = _table(results, FRONT), _table(results, BASELINE)
    if trained.info.arch:
        front = _only_subnet(trained, trained.info.arch)
    selected = [arch for table in (front, baseline) if table is not None for arch in table["arch"]]
    folder = Folder(out) if out else results or run
    folder.check_writable("give another folder with --out")
    profiled = trained.device(device)
    test = final_test(trained, selected, target=Target.of(profiled), progress=progress)
    before = evaluate_before_training(trained)
    folder.write_csv(TEST, pd.concat([test, before]))
    predictor, predictions = _predictor(results)

    figures = quality_figures(pd.concat([test, before]), trained.task)
    volumes: dict[str, float] = {}
    if predictor is not None:
        figures += predictor_figures(predictor)
    if profiled is not None:
        figures += latency_figures(profiled.profile)
    reference = {name.partition("@")[0]: value for name, value in search.get("reference", {}).items()}
    if front is not None and {task.primary_objective, "latency_ms"} <= reference.keys():
        how = "measured" if front["measured_latency_ms"].notna().all() else "predicted"
        name = f"{search['algorithm']} (test split, {how} latency)"
        volumes[name] = test_hypervolume(front, test, reference, task)
        if baseline is not None:
            volumes["random search"] = test_hypervolume(baseline, test, reference, task)
        figures += hypervolume_figures(volumes)
    if search.get("certificate"):
        figures += certificate_figures(search["certificate"])
    figures += extra
    named_targets = targets or {}
    figures = [
        (name, value, unit, target or named_targets.get(name, "")) for name, value, unit, target in figures
    ]
    data = ReportData(
        run=trained.info,
        space=space,
        task=task,
        training=_table(run, TRAINING_LOG),
        evaluations=_evaluations(
            trained.with_validation_images(search.get("validation_images")), space, results, profiled
        ),
        front=front,
        baseline=baseline,
        test=test,
        predictor=predictor,
        predictions=predictions,
        latency=profiled.held_out if profiled else None,
        profile=profiled.profile.model_dump(mode="json") if profiled else None,
        hypervolume=volumes,
        comparison=comparison,
        reference_point=reference,
        figures=figures,
        files=_exported(run, search.get("device")),
    )
    folder.write_text(REPORT, write_report(data))
    return folder.file(REPORT), figures


def _table(folder: Folder | None, name: str) -> pd.DataFrame | None:
    return folder.read_csv(name) if folder and folder.has(name) else None


def _comparison(trained: TrainedRun, path: Path) -> pd.DataFrame:
    comparison = read_comparison(path)
    if trained.task.objectives.get(ACCURACY) != trained.task.headline.metric:
        raise ValueError(
            f"--compare shows accuracies, but the results of the task {trained.info.task!r} are shown as "
            f"{trained.task.headline.metric}; leave it out"
        )
    if trained.run.last_device is None:
        raise ValueError("--compare needs latencies of the run's subnets; run nas search --device NAME first")
    return comparison


def _only_subnet(trained: TrainedRun, arch: Arch) -> pd.DataFrame:
    """The subnet of a fine-tuned run as a front of one row."""
    row = {"arch_id": arch.id, "arch": arch} | trained.evaluator()([arch], "report")[0]
    row |= {"macs": trained.space.macs(arch), "params": trained.space.params(arch)}
    return pd.DataFrame([row]).assign(latency_ms=float("nan"), measured_latency_ms=float("nan"))


def _exported(run: RunDir, device: str | None) -> dict[str, list[str]]:
    """Files exported for the device or for no device, by arch id, relative to the folder of exports."""
    folders = [run.exports(name).path for name in dict.fromkeys((None, device))]
    files: dict[str, list[str]] = {}
    for path in sorted(path for folder in folders if folder.is_dir() for path in folder.iterdir()):
        if path.suffix in (ONNX, TORCH):
            files.setdefault(path.name.partition(".")[0], []).append(str(path.relative_to(run.file(EXPORTS))))
    return files


def _evaluations(
    trained: TrainedRun, space: Space, results: Folder | None, device: Device | None
) -> pd.DataFrame:
    """The archive with the costs of each subnet.

    If the precision was a choice of the search, the evaluations of the search come first, followed by the
    archived evaluations of subnets in fp32.
    """
    frame = trained.archive.frame()
    in_fp32 = [arch.keys() <= trained.space.choices.keys() for arch in frame["arch"]]
    frame = frame[in_fp32].reset_index(drop=True)
    if isinstance(space, PrecisionSpace) and results is not None:
        searched = results.read_csv(SEARCH_CSV).assign(split="validation")
        frame = pd.concat([searched, in_floating_point(frame, space)], ignore_index=True)
    if trained.info.arch:  # other subnets are not trained
        frame = frame[frame["arch_id"] == trained.info.arch.id].reset_index(drop=True)
    genomes = space.encode(frame["arch"])
    frame["macs"], frame["params"] = macs_table(space)(genomes), params_table(space)(genomes)
    if device is not None:
        frame["latency_ms"] = device.latency(space)(genomes)
    return frame


def _predictor(results: Folder | None) -> tuple[PredictorRecord | None, pd.DataFrame | None]:
    """The record of the predictor and all predictions of its metric, if the search used one."""
    if results is None or not results.has(PREDICTOR):
        return None, None
    record = results.read_model(PREDICTOR, PredictorRecord)
    predictions = results.read_csv(PREDICTIONS)
    return record, predictions[predictions["metric"] == record.metric]
