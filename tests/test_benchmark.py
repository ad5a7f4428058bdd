from functools import partial
from pathlib import Path

import numpy as np
import pytest
from conftest import make_device

import search_spaces
from hw_profiles.bundle import LIGHT, BundleContent, read_job
from hw_profiles.connections.here import Here
from hw_profiles.key import RunSettings
from hw_profiles.results import Results
from hw_profiles.runner import MIN_RUNS
from nas.devices.benchmark import DEVICE, PREDICTED, benchmark, benchmark_on
from nas.onnx_files import onnx_graph

SPACE = search_spaces.get("digits")


def write_model(path: Path, *, batch: int | None = 1, metadata: dict[str, str] | None = None) -> Path:
    layers = SPACE.layers(SPACE.smallest)
    weights = onnx_graph.random_weights(layers, np.random.default_rng(0))
    model = onnx_graph.build(layers, weights, batch=batch, metadata=metadata)
    path.write_bytes(model.SerializeToString())
    return path


def test_figures_of_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # a busy machine times models again, and tells that too
    monkeypatch.setattr("nas.devices.benchmark.BundleContent", partial(BundleContent, repeats=0.0))
    plain = write_model(tmp_path / "plain.onnx", batch=None)
    told = write_model(tmp_path / "told.onnx", metadata={PREDICTED: "0.25", DEVICE: "pi4"})
    seen: list[int] = []
    rows = benchmark([plain, told], progress=lambda what, done, total: seen.append(done))
    assert [row.model for row in rows] == [str(plain), str(told)]
    assert [(row.predicted_latency_ms, row.device) for row in rows] == [(None, None), (0.25, "pi4")]
    assert seen == [1, 2]
    for row in rows:
        assert 0 < row.latency_ms <= row.p90_ms  # CPU time, below the slow runs' wall clock
        assert row.min_ms <= row.median_ms <= row.p90_ms
        assert row.runs >= LIGHT.sessions * MIN_RUNS


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cannot read the model .*none\.onnx: no such file"):
        benchmark([tmp_path / "none.onnx"])


def test_file_that_is_no_model(tmp_path: Path) -> None:
    path = tmp_path / "text.onnx"
    path.write_text("not a model")
    with pytest.raises(ValueError, match=r"text\.onnx is no ONNX model that onnxruntime") as caught:
        benchmark([path])
    assert "\n" not in str(caught.value)


def test_provider_that_is_not_here(tmp_path: Path) -> None:
    path = write_model(tmp_path / "model.onnx")
    with pytest.raises(ValueError, match=r"provider must be one of .*CPUExecutionProvider.*got 'Abacus'"):
        benchmark([path], settings=RunSettings(provider="Abacus"))


def test_threads(tmp_path: Path) -> None:
    path = write_model(tmp_path / "model.onnx")
    assert benchmark([path], settings=RunSettings(threads=2))[0].threads == 2
    with pytest.raises(ValueError, match="threads must be >= 1, got 0"):
        benchmark([path], settings=RunSettings(threads=0))


# ---------------------------------------------------------------------- on a device


def measured_as(monkeypatch: pytest.MonkeyPatch, **told: str) -> None:
    """The device takes 1.5 ms and says this about itself."""

    def measure(self: Here, bundle: Path, progress: object) -> Results:
        results = Results.of_tool(read_job(bundle), {"model0": [1.5]}, "onnxruntime", 0.0)
        return results.model_copy(update={"device": told})

    monkeypatch.setattr(Here, "measure", measure)


def test_benchmark_on_a_device_says_where_it_was_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured_as(monkeypatch, cpu="c", machine="arm64")
    path = write_model(tmp_path / "model.onnx", metadata={PREDICTED: "0.25", DEVICE: "pi4"})
    (row,) = benchmark_on(make_device(SPACE, "desk").profile, [path])
    assert (row.latency_ms, row.measured_on) == (1.5, "desk")
    assert (row.predicted_latency_ms, row.device) == (0.25, "pi4")


def test_latency_of_another_device_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured_as(monkeypatch, cpu="another", machine="arm64")
    with pytest.raises(ValueError, match=r"is not the device 'desk': it says .*another.*do not count"):
        benchmark_on(make_device(SPACE, "desk").profile, [write_model(tmp_path / "model.onnx")])


def test_other_runtime_than_that_of_the_profile_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    measured_as(monkeypatch, cpu="c", machine="arm64", runtime="onnxruntime", version="99")
    benchmark_on(make_device(SPACE, "desk").profile, [write_model(tmp_path / "model.onnx")])
    assert "'desk' has onnxruntime 99 now, its profile is of 1" in caplog.text
