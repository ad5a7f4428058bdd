"""Exports in INT8 and fp16: evaluated as they are deployed, with what that costs and brings."""

import dataclasses
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from bundles import onnx_metadata
from conftest import make_device
from onnx import TensorProto

from hw_profiles.device_files import write_device
from nas.data.batches import eval_batches
from nas.evaluation.deployed import Target, deployed_model, float_model, network_metrics, open_onnx
from nas.evaluation.trained_run import TrainedRun
from nas.export import export_run
from nas.export.card import READER
from nas.export.export import export
from nas.export.export_run import export_subnets, exported_table
from nas.onnx_backend.precision import MIXED
from nas.runs.files import EXPORTS, PROFILES
from search_spaces import Arch
from search_spaces.precision_space import float_arch, with_precision


@pytest.fixture
def arch(trained: TrainedRun) -> Arch:
    return trained.space.largest


@pytest.fixture(autouse=True)
def _nothing_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_run, "_measure", lambda device, target: None)


def card_of(path: Path) -> dict[str, Any]:
    card: dict[str, Any] = json.loads(path.with_suffix(".json").read_text())
    return card


@pytest.mark.parametrize(
    ("batch", "precision"), [(1, "int8"), (100, "fp16"), (None, "int8"), (None, "fp16"), (None, "mixed")]
)
def test_card_has_the_accuracy_of_the_very_file(
    trained: TrainedRun, arch: Arch, precision: str, batch: int | None
) -> None:
    if precision == MIXED:
        space = with_precision(trained.space, "block")
        arch = space.uniform(arch, "int8") | {"stem.bits": 32, "stages.1.blocks.0.bits": 32}
    exported = export(trained, arch, Target(precision, batch), best_ranges=True)
    assert exported.path.name == f"{arch.id}{'' if batch else '.dynamic'}.{precision}.onnx"
    session = onnxruntime.InferenceSession(exported.path, providers=["CPUExecutionProvider"])
    (images,), (labels,) = zip(
        *eval_batches(trained.dataset, "validation", int(arch["resolution"]), 600), strict=True
    )
    step = batch or len(images)
    whole = len(images) // step * step
    parts = [session.run(None, {"input": part.numpy()})[0] for part in images[:whole].split(step)]
    hits = (torch.from_numpy(np.concatenate(parts)).argmax(1) == labels[:whole]).double()
    card = card_of(exported.path)
    if whole == len(images):
        assert card["validation_metrics"]["top1"] == pytest.approx(hits.mean().item())
    else:  # 540 images in steps of 100: the last 40 can change the mean by no more than their share
        assert abs(card["validation_metrics"]["top1"] - hits.mean().item()) <= 40 / 540
    plain = float_arch(trained.space, arch)
    assert card["fp32_validation_metrics"] == trained.evaluator()([plain], "again")[0]
    assert card["precision"] == precision
    assert ("int8_ranges" in card) == (precision != "fp16")
    if precision == MIXED:
        in_float = [name for name, own in card["precision_of_blocks"].items() if own == "fp32"]
        assert in_float == ["stem", "stages.1.blocks.0"]
        assert Arch(card["arch"]) == arch
    assert exported.metrics == card["validation_metrics"]
    metadata = onnx_metadata(exported.path)
    stored = {key: text if isinstance(card[key], str) else json.loads(text) for key, text in metadata.items()}
    assert stored == {key: value for key, value in card.items() if key != "max_difference_to_torch"}


def test_patterns_of_bits_of_one_subnet_share_its_ranges(trained: TrainedRun, arch: Arch) -> None:
    space = with_precision(trained.space, "block")
    target, fp32 = Target(MIXED, None), float_model(trained, arch)
    metrics = trained.evaluator().metrics
    models = {}
    for name in ("fp32", "int8"):
        mixed = space.uniform(arch, name)
        models[name] = deployed_model(trained, mixed, target, fp32)
        assert models[name] == deployed_model(trained, arch, Target(name, None), fp32)
        found = network_metrics(trained, mixed, open_onnx(models[name].SerializeToString()), None, metrics)
        if name == "fp32":
            assert found == pytest.approx(trained.evaluator()([arch], "again")[0], abs=1e-4)
    assert models["fp32"] == fp32
    assert trained.ranges.keys() == {(arch.id, "minmax")}
    half = space.uniform(arch, "int8") | {"stem.bits": 32}
    mixed_model = deployed_model(trained, half, target, fp32)
    assert mixed_model not in models.values()
    assert trained.ranges.keys() == {(arch.id, "minmax")}
    with pytest.raises(ValueError, match="precision mixed needs a subnet that chooses"):
        deployed_model(trained, arch, target, fp32)


def test_int8_is_calibrated_for_the_devices_processor(trained: TrainedRun, arch: Arch) -> None:
    path = export(trained, arch, Target("int8", 1, "arm")).path
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    constants = {constant.name: constant for constant in model.graph.initializer}
    zero_points = [constants[n.input[2]] for n in model.graph.node if n.op_type == "QuantizeLinear"]
    assert {constant.data_type for constant in zero_points} == {TensorProto.INT8}
    assert card_of(path)["int8_for"] == "arm"


def test_int8_file_is_written_next_to_the_fp32_file(trained: TrainedRun, arch: Arch) -> None:
    files = export_subnets(trained, [arch]) + export_subnets(trained, [arch], precision="int8")
    names = {path.name for path in trained.run.file(EXPORTS).iterdir()}
    files_of_arch = {f"{arch.id}{end}" for end in (".onnx", ".json", ".int8.onnx", ".int8.json")}
    assert names == files_of_arch | {READER}
    table = exported_table(files, "top1")
    assert list(table["precision"]) == ["fp32", "int8"]
    assert table["fp32_top1"].nunique() == 1
    assert table["top1"][0] == table["fp32_top1"][0]


def test_a_searched_run_exports_in_its_devices_precision(searched: TrainedRun) -> None:
    device = make_device(searched.space)
    key = device.profile.key.model_copy(update={"precision": "int8"})
    profile = device.profile.model_copy(update={"key": key})
    write_device(searched.run.file(PROFILES) / "desk", type(device)(**(vars(device) | {"profile": profile})))
    (file,) = export_subnets(searched, [searched.space.smallest])
    assert file.precision == "int8"
    assert card_of(file.path)["int8_for"] == "arm"  # as the made-up device is
    assert onnx_metadata(file.path)["device"] == "desk"
    (file,) = export_subnets(searched, [searched.space.smallest], precision="fp32")
    assert "predicted_latency_ms" not in onnx_metadata(file.path)  # the table is that of INT8


def test_warnings(trained: TrainedRun, arch: Arch, caplog: pytest.LogCaptureFixture) -> None:
    def measure(paths: Sequence[Path]) -> list[float]:
        return [{"fp32": 2.0, "int8": 2.5}[path.stem] for path in paths]

    with caplog.at_level(logging.WARNING):
        file = export(trained, arch, Target("int8"), measure=measure)
    assert card_of(file.path)["latency_by_precision_ms"] == {"fp32": 2.0, "int8": 2.5}
    assert f"int8 is slower than fp32 here for {arch.id}: 2.5 ms, fp32 2 ms" in caplog.text
    caplog.clear()
    with pytest.MonkeyPatch.context() as patch, caplog.at_level(logging.WARNING):
        headline = dataclasses.replace(trained.task.headline, noticeable=-1.0)  # any loss is large
        patch.setattr(type(trained.task), "headline", headline)
        export(trained, arch, Target("int8"), measure=lambda paths: [1.0, 1.0])
    assert f"int8 costs {arch.id}" in caplog.text
    assert "slower" not in caplog.text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "int4"}, r"precision must be one of \['fp32', 'fp16', 'int8', 'mixed'\], got 'int4'"),
        (
            {"precision": "int8", "file_format": "torch"},
            "a file in int8 must have the format onnx, got torch",
        ),
    ],
)
def test_bad_options_write_nothing(
    trained: TrainedRun, arch: Arch, options: dict[str, str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        export_subnets(trained, [arch], **options)  # type: ignore[arg-type]
    assert not trained.run.has(EXPORTS)


def test_unknown_processor_writes_nothing(trained: TrainedRun, arch: Arch) -> None:
    with pytest.raises(ValueError, match="INT8 needs the instruction set of the device"):
        export(trained, arch, Target("int8", 1, "riscv64"))
    assert not trained.run.has(EXPORTS)
