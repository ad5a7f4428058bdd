from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
from conftest import make_device
from onnx import TensorProto, helper, numpy_helper

import search_spaces
from hw_profiles.connections.external_tool import Command, Tool
from hw_profiles.connections.local import Local
from hw_profiles.measuring.bundle import BundleContent, read_job
from hw_profiles.measuring.results import Results
from hw_profiles.measuring.runner.estimator import MIN_RUNS
from hw_profiles.measuring.runner.process_limits import usable_cores
from hw_profiles.run_settings import RunSettings
from nas.devices.benchmark import DEVICE, PREDICTED, BenchmarkError, benchmark, benchmark_on
from nas.devices.model_files import parse_shapes, read_model
from nas.onnx_backend import onnx_graph

SPACE = search_spaces.get("digits")


def write_graph(
    path: Path, inputs: Mapping[str, tuple[int, Sequence[int | str | None] | None]], op: str
) -> Path:
    """A model with one operator that reads all its inputs, given by type and shape."""
    values = [helper.make_tensor_value_info(name, *declared) for name, declared in inputs.items()]
    kind = next(iter(inputs.values()))[0] if inputs else TensorProto.FLOAT
    node = helper.make_node(op, list(inputs) or ["c"], ["y"])
    constants = [] if inputs else [numpy_helper.from_array(np.ones(3, np.float32), "c")]
    graph = helper.make_graph(
        [node], "g", values, [helper.make_tensor_value_info("y", kind, None)], constants
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path


def write_model(path: Path, *, batch: int | None = 1, metadata: dict[str, str] | None = None) -> Path:
    blocks = SPACE.blocks(SPACE.smallest)
    weights = onnx_graph.random_weights(blocks, np.random.default_rng(0))
    model = onnx_graph.build(blocks, weights, batch=batch, metadata=metadata)
    path.write_bytes(model.SerializeToString())
    return path


def test_figures_of_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # a busy machine times models again, and tells that too
    monkeypatch.setattr("nas.devices.benchmark.BundleContent", partial(BundleContent, repeats=0.0))
    plain = write_model(tmp_path / "plain.onnx", batch=None)
    predicted = write_model(tmp_path / "predicted.onnx", metadata={PREDICTED: "0.25", DEVICE: "pi4"})
    seen: list[int] = []
    rows = benchmark([plain, predicted], progress=lambda what, done, total: seen.append(done))
    assert [row.model for row in rows] == [str(plain), str(predicted)]
    assert [(row.predicted_latency_ms, row.device) for row in rows] == [(None, None), (0.25, "pi4")]
    assert seen == [1, 2]
    assert {row.shape for row in rows} == {"input=1,1,24,24"}
    for row in rows:
        assert 0 < row.latency_ms <= row.p90_ms  # CPU time, below the slow runs' wall clock
        assert row.min_ms <= row.median_ms <= row.p90_ms
        assert row.runs >= MIN_RUNS  # sessions at slow moments do not count, and one at least does


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"cannot read the model .*model\.onnx: no such file"),
        ("folder", r"cannot read the model .*model\.onnx: it is a folder"),
        (b"", r"model\.onnx is not an ONNX model that onnxruntime .*"),
        (b"not a model", r"model\.onnx is not an ONNX model that onnxruntime .*"),
        ("truncated", r"model\.onnx is not an ONNX model that onnxruntime .*"),
        ("opset 99", r"too old for .*model\.onnx.*"),
    ],
    ids=str,
)
def test_file_that_is_no_model(tmp_path: Path, content: str | bytes | None, message: str) -> None:
    path = tmp_path / "model.onnx"
    if content == "folder":
        path.mkdir()
    elif content == "truncated":
        write_model(path).write_bytes(path.read_bytes()[:2000])
    elif content == "opset 99":
        model = onnx.load(write_model(path))
        model.opset_import[0].version = 99
        path.write_bytes(model.SerializeToString())
    elif isinstance(content, bytes):
        path.write_bytes(content)
    with pytest.raises(BenchmarkError, match=message) as caught:
        benchmark([path])
    assert "\n" not in str(caught.value)
    assert caught.value.rows == []


def test_models_that_can_be_measured_are_measured(tmp_path: Path) -> None:
    good = write_graph(tmp_path / "good.onnx", {"x": (TensorProto.FLOAT, [1])}, "Relu")
    # a shape that is an input cannot be guessed: the run itself fails
    values = {"x": (TensorProto.FLOAT, [2, 3]), "shape": (TensorProto.INT64, [2])}
    failing = write_graph(tmp_path / "failing.onnx", values, "Reshape")
    missing = tmp_path / "missing.onnx"
    with pytest.raises(BenchmarkError) as caught:
        benchmark([missing, failing, good, good])
    assert [row.model for row in caught.value.rows] == [str(good), str(good)]
    assert f"cannot read the model {missing}" in str(caught.value)
    assert f"{failing} does not run on random inputs x=2,3 shape=2: " in str(caught.value)


@pytest.mark.slow
def test_inputs_of_any_type(tmp_path: Path) -> None:
    models: dict[str, tuple[Mapping[str, tuple[int, list[int | str | None]]], str]] = {
        "ids=1,8 mask=1,8": (
            {"ids": (TensorProto.INT64, [1, 8]), "mask": (TensorProto.INT64, [1, 8])},
            "Mul",
        ),
        "x=2": ({"x": (TensorProto.BOOL, [2])}, "Not"),
        "x=1,3,4,6": ({"x": (TensorProto.DOUBLE, [1, 3, 4, 6])}, "Relu"),
        "x=": ({"x": (TensorProto.FLOAT16, [])}, "Relu"),
        "": ({}, "Relu"),
    }
    paths = [write_graph(tmp_path / f"{i}.onnx", *model) for i, model in enumerate(models.values())]
    rows = benchmark(paths)
    assert [row.shape for row in rows] == list(models)
    assert all(row.latency_ms > 0 for row in rows)


def test_weights_in_a_file_of_their_own_travel_with_the_model(tmp_path: Path) -> None:
    model = onnx.load(write_model(tmp_path / "whole.onnx"))
    path = tmp_path / "model.onnx"
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert b"weights.bin" not in read_model(path, 1, {}).content
    (row,) = benchmark([path])
    assert row.latency_ms > 0
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(ValueError, match=rf"{path} .*weights\.bin"):
        benchmark([path])


def test_provider_that_is_not_here(tmp_path: Path) -> None:
    path = write_model(tmp_path / "model.onnx")
    with pytest.raises(ValueError, match=r"provider must be one of .*CPUExecutionProvider.*got 'Abacus'"):
        benchmark([path], settings=RunSettings(provider="Abacus"))


def test_threads(tmp_path: Path) -> None:
    path = write_model(tmp_path / "model.onnx")
    n = usable_cores()
    assert benchmark([path], settings=RunSettings(threads=n))[0].threads == n
    with pytest.raises(ValueError, match="threads must be >= 1, got 0"):
        benchmark([path], settings=RunSettings(threads=0))


# ---------------------------------------------------------------------- open shapes


@pytest.mark.parametrize(
    ("declared", "given", "shape"),
    [
        ([1, 3, 8, 8], {}, (1, 3, 8, 8)),
        (["batch", 3, 8, 8], {}, (5, 3, 8, 8)),
        ([None, 3, 8, 8], {}, (5, 3, 8, 8)),
        (["n", 7], {}, (5, 7)),
        (["batch", 3, "h", "w"], {"x": (2, 3, 4, 6)}, (2, 3, 4, 6)),
        (None, {"x": (4,)}, (4,)),
        ([1, 3], {"y": (4,)}, (1, 3)),  # for another model
    ],
)
def test_shape_of_an_input(
    tmp_path: Path,
    declared: list[int | str | None] | None,
    given: dict[str, tuple[int, ...]],
    shape: tuple[int, ...],
) -> None:
    path = write_graph(tmp_path / "model.onnx", {"x": (TensorProto.FLOAT, declared)}, "Relu")
    file = read_model(path, 5, given)
    assert file.shapes == {"x": shape}
    assert file.is_open == (declared is None or list(shape) != declared)


@pytest.mark.parametrize(
    ("kind", "declared", "given", "message"),
    [
        (TensorProto.FLOAT, ["batch", 3, "h", None], {}, r"'x' open: 5,3,h,\?; add --shape x=5,3,DIM,DIM"),
        (TensorProto.INT64, ["sequence"], {}, r"'x' open: sequence; add --shape x=DIM"),
        (
            TensorProto.FLOAT,
            None,
            {},
            r"does not declare the shape of its input 'x'; add --shape x=DIM,DIM,...",
        ),
        (TensorProto.FLOAT, [1, 3], {"x": (1, 4)}, r"--shape x=1,4 does not fit .*, which declares 1,3"),
        (TensorProto.FLOAT, ["a", 3], {"x": (3,)}, r"--shape x=3 does not fit .*, which declares a,3"),
        (TensorProto.STRING, ["a"], {}, r"tensors of numbers or bool, 'x' is tensor\(string\)"),
        (TensorProto.BFLOAT16, [1], {}, r"tensors of numbers or bool, 'x' is tensor\(bfloat16\)"),
    ],
)
def test_input_that_cannot_be_filled(
    tmp_path: Path,
    kind: int,
    declared: list[int | str | None] | None,
    given: dict[str, tuple[int, ...]],
    message: str,
) -> None:
    path = write_graph(tmp_path / "model.onnx", {"x": (kind, declared)}, "Identity")
    with pytest.raises(ValueError, match=message) as caught:
        read_model(path, 5, given)
    assert str(path) in str(caught.value)


def test_shapes_as_text(tmp_path: Path) -> None:
    assert parse_shapes(["x=1,3, 8,8", "a=b=2"]) == {"x": (1, 3, 8, 8), "a=b": (2,)}
    for text in ("x", "=1", "x=", "x=1,,2", "x=0", "x=-1", "x=1.5", "x=a"):
        with pytest.raises(ValueError, match=r"--shape must be NAME=DIM,DIM,... with sizes >= 1, got "):
            parse_shapes([text])
    with pytest.raises(ValueError, match="must name each input once, got 'x' twice"):
        parse_shapes(["x=1", "x=2"])
    path = write_graph(tmp_path / "model.onnx", {"x": (TensorProto.FLOAT, [1])}, "Relu")
    with pytest.raises(ValueError, match=r"must name an input of the models, one of \['x'\], got \['y'\]"):
        benchmark([path], shapes={"y": (1,)})


# ---------------------------------------------------------------------- on a device


def measured_as(monkeypatch: pytest.MonkeyPatch, **description: str) -> None:
    """The device takes 1.5 ms and says this about itself."""

    def measure(self: Local, bundle: Path, progress: object) -> Results:
        results = Results.of_tool(read_job(bundle), {"model0": [1.5]}, "onnxruntime", 0.0)
        return results.model_copy(update={"device": description})

    monkeypatch.setattr(Local, "measure", measure)


def test_benchmark_on_a_device_names_the_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured_as(monkeypatch, cpu="c", machine="arm64")
    path = write_model(tmp_path / "model.onnx", metadata={PREDICTED: "0.25", DEVICE: "pi4"})
    (row,) = benchmark_on(make_device(SPACE, "desk").profile, [path])
    assert (row.latency_ms, row.measured_on) == (1.5, "desk")
    assert (row.predicted_latency_ms, row.device) == (0.25, "pi4")
    for foreign in ("fast", "0,25", "inf", ""):  # another tool may use the key for something else
        path = write_model(tmp_path / "model.onnx", metadata={PREDICTED: foreign})
        (row,) = benchmark_on(make_device(SPACE, "desk").profile, [path])
        assert (row.latency_ms, row.predicted_latency_ms) == (1.5, None)


def test_latency_of_another_device_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured_as(monkeypatch, cpu="another", machine="arm64")
    with pytest.raises(ValueError, match=r"is not 'desk': it reports .*another.*are not valid"):
        benchmark_on(make_device(SPACE, "desk").profile, [write_model(tmp_path / "model.onnx")])


def test_other_runtime_than_that_of_the_profile_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    measured_as(monkeypatch, cpu="c", machine="arm64", runtime="onnxruntime", version="99")
    benchmark_on(make_device(SPACE, "desk").profile, [write_model(tmp_path / "model.onnx")])
    assert "'desk' now has onnxruntime 99, but was profiled with 1" in caplog.text


def test_device_measures_its_own_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a file that leaves the batch open; a file of another batch is measured as it is, with a warning."""
    profile = make_device(SPACE, "desk").profile
    profile = profile.model_copy(update={"key": profile.key.model_copy(update={"batch": 8})})
    monkeypatch.setattr(
        type(profile), "check_same_device", lambda self, description: None
    )  # this machine stands in for it
    paths = [write_model(tmp_path / "open.onnx", batch=None), write_model(tmp_path / "one.onnx")]
    open_batch, one = benchmark_on(profile, paths)
    assert (open_batch.shape, one.shape) == ("input=8,1,24,24", "input=1,1,24,24")
    warning = "the model reads batches of 1, the profile of 'desk' is for batches of 8"
    assert warning not in open_batch.warnings
    assert warning in one.warnings


def test_tool_of_a_device_takes_files_of_fixed_shapes(tmp_path: Path) -> None:
    tool = Command(tool=Tool(template="no_such_tool {onnx}"))
    path = write_model(tmp_path / "open.onnx", batch=None)
    with pytest.raises(ValueError, match=r"open\.onnx must have inputs of fixed shapes"):
        benchmark_on(make_device(SPACE, "desk").profile, [path], connection=tool)
