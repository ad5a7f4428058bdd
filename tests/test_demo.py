"""The whole job in a small space."""

import json
import math
from pathlib import Path

import onnxruntime
import pytest
import yaml
from bundles import onnx_metadata
from conftest import TINY_YAML, make_search_quick

from nas.cli import demo_run
from nas.cli.demo_run import run_demo
from nas.recipes import recipe
from nas.report.figures_of_merit import figure_rows
from nas.runs.files import FRONT, PROFILES, REPORT, SUPERNET
from nas.runs.run_dir import RunDir

FIGURES = 14
"""3 accuracies, 3 of the predictor, 3 of latency, the hypervolume, the certificate, 2 differences and the
time of --help."""
NEED_LATENCIES = {
    "predictor, Kendall tau before evaluation",
    "test hypervolume, search / random search",
    "front found / exact front of the additive surrogate",
}
"""Figures that are left out where noise of the latencies leaves a search nothing to compare."""


@pytest.mark.slow
@pytest.mark.usefixtures("quick_measuring")
def test_demo_leaves_files_report_and_figures_and_can_be_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_search_quick(monkeypatch, measured=False)
    for constant, few in {"EVALUATIONS": 40, "NOISE_CEILING": 5, "HELD_OUT": 8}.items():
        monkeypatch.setattr(demo_run, constant, few)
    (tmp_path / "tiny.yaml").write_text(TINY_YAML)
    short = recipe.load("digits", ["epochs=3", f"space={tmp_path / 'tiny.yaml'}"]).model_dump(mode="json")
    (tmp_path / "short.yaml").write_text(yaml.safe_dump(short))
    run = RunDir(tmp_path / "run")

    def stop(what: str, done: int, total: int) -> None:
        if what.startswith("profiling") and done > total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_demo(run.path, recipe=tmp_path / "short.yaml", progress=stop)
    assert run.has(SUPERNET)
    assert run.last_device is None
    trained = run.file(SUPERNET).read_bytes()
    with pytest.raises(ValueError, match="or add --resume"):
        run_demo(run.path, recipe=tmp_path / "short.yaml")
    result = run_demo(run.path, recipe=tmp_path / "short.yaml", resume=True)
    assert run.file(SUPERNET).read_bytes() == trained

    results = run.search("this-machine")
    assert result.report == results.file(REPORT)
    assert all(results.has(name) for name in (REPORT, FRONT))
    assert run.has(f"{PROFILES}/this-machine/profile.json")
    exported = {path.stem for path in run.exports("this-machine").path.glob("*.onnx")}
    assert set(result.subnets["arch_id"]) == exported <= set(results.read_csv(FRONT)["arch_id"])
    for _, row in result.subnets.iterrows():
        onnxruntime.InferenceSession(row["file"], providers=["CPUExecutionProvider"])
        assert float(onnx_metadata(Path(row["file"]))["predicted_latency_ms"]) == row["predicted_latency_ms"]
        assert 0 < row["measured_latency_ms"] < 1000
        assert 0 < row["test_top1"] <= 1
    figures = json.loads(json.dumps(figure_rows(result.figures)))
    names = {figure["figure"] for figure in figures}
    assert len(names) == len(figures)
    assert len(names | NEED_LATENCIES) == FIGURES
    assert all(math.isfinite(figure["value"]) for figure in figures)
    by_name = {figure["figure"]: figure for figure in figures}
    assert by_name["elastic against extracted, largest difference"]["met"]
    assert by_name["torch against ONNX, largest difference"]["met"]
    assert by_name["nas --help"]["value"] > 0.01  # less than an interpreter needs to start
