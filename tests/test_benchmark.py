from pathlib import Path

import numpy as np
import pytest

import search_spaces
from hw_profiles.key import RunSettings
from hw_profiles.runner import MIN_RUNS, SESSIONS
from nas import onnx_graph
from nas.benchmark import DEVICE, PREDICTED, benchmark

SPACE = search_spaces.get("digits")


def write_model(path: Path, *, batch: int | None = 1, metadata: dict[str, str] | None = None) -> Path:
    layers = SPACE.layers(SPACE.smallest)
    weights = onnx_graph.random_weights(layers, np.random.default_rng(0))
    model = onnx_graph.build(layers, weights, batch=batch, metadata=metadata)
    path.write_bytes(model.SerializeToString())
    return path


def test_figures_of_models(tmp_path: Path) -> None:
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
        assert row.runs >= SESSIONS * MIN_RUNS


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
