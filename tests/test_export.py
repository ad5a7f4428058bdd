"""Exported subnets: equal to torch, complete in themselves, and as accurate as the report says."""

import json
import runpy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from bundles import onnx_metadata
from conftest import make_device
from numpy.typing import NDArray
from PIL import Image

from hw_profiles.device_files import write_device
from nas.data.batches import eval_batches
from nas.evaluation.calibration import Calibration
from nas.evaluation.deployed import Target
from nas.evaluation.trained_run import TrainedRun
from nas.export import export as module
from nas.export.card import READER
from nas.export.export import export
from nas.export.export_run import export_subnets, exported_table
from nas.export.formats import FORMATS
from nas.onnx_backend import onnx_graph
from nas.report import final_test
from nas.report.report_run import report_run
from nas.runs.files import EXPORTS, FRONT, PROFILES, TEST
from nas.torch_backend.static import StaticNet
from search_spaces import Arch


@pytest.fixture
def arch(trained: TrainedRun) -> Arch:
    """With an expansion, a shortcut and an SE branch."""
    return trained.space.largest


def session(path: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def card_of(path: Path) -> dict[str, Any]:
    card: dict[str, Any] = json.loads(path.with_suffix(".json").read_text())
    return card


# ---------------------------------------------------------------------- equal to torch


def test_outputs_equal_torch_on_all_validation_images(trained: TrainedRun) -> None:
    draws = trained.space.sample(np.random.default_rng(2), 2)
    for arch in [trained.space.smallest, trained.space.largest, *trained.space.decode(draws)]:
        exported = export(trained, arch, Target(batch=None))
        net, run = trained.evaluator().subnet(arch), session(exported.path)
        for images, _ in eval_batches(trained.dataset, "validation", trained.space.image_size(arch), 100):
            with torch.no_grad():
                expected = net(images).numpy()
            (logits,) = run.run(None, {"input": images.numpy()})
            assert np.abs(logits - expected).max() <= 1e-5 * max(1.0, np.abs(expected).max())
        assert 0 <= exported.max_difference <= 1e-4


@pytest.mark.parametrize("batch", [1, 3, module.CHECKED_IMAGES + 1, None])
def test_every_batch_is_checked_and_fixed_in_the_file(
    trained: TrainedRun, arch: Arch, batch: int | None
) -> None:
    path = export(trained, arch, Target(batch=batch)).path
    (taken,), (given,) = session(path).get_inputs(), session(path).get_outputs()
    assert taken.shape == [batch or "batch", 1, arch["resolution"], arch["resolution"]]
    assert given.shape == [batch or "batch", 10]
    assert card_of(path)["batch"] == (batch or "dynamic")


@pytest.mark.parametrize("file_format", ["onnx", pytest.param("torch", marks=pytest.mark.slow)])
def test_a_file_that_computes_something_else_is_not_written(
    trained: TrainedRun, arch: Arch, monkeypatch: pytest.MonkeyPatch, file_format: str
) -> None:
    net = trained.evaluator().subnet(arch)
    with torch.no_grad():
        next(net.parameters()).mul_(1.01)
    kind = FORMATS[file_format]
    wrong = kind.content(kind.build(trained.space, arch, net, 1), {})
    good = export(trained, arch, file_format=file_format).path
    before = {path.name: path.read_bytes() for path in good.parent.iterdir()}
    assert before.keys() >= {f"{arch.id}{kind.card_suffix}.json", good.name, READER}
    kind = replace(kind, content=lambda *_: wrong)
    monkeypatch.setattr(module, "FORMATS", {file_format: kind})
    with pytest.raises(ValueError, match="computes other outputs than torch: largest difference"):
        export(trained, arch, file_format=file_format)
    assert {path.name: path.read_bytes() for path in good.parent.iterdir()} == before


@pytest.mark.slow
def test_the_graph_equals_what_torchs_own_exporter_gives(trained: TrainedRun, arch: Arch) -> None:
    ours = session(export(trained, arch, Target(batch=2)).path)
    net = trained.evaluator().subnet(arch)
    images, _ = next(iter(eval_batches(trained.dataset, "validation", trained.space.image_size(arch), 2)))
    theirs = torch_onnx(net, images)
    names = (theirs.get_inputs()[0].name, ours.get_inputs()[0].name)
    (reference,) = theirs.run(None, {names[0]: images.numpy()})
    (logits,) = ours.run(None, {names[1]: images.numpy()})
    assert np.abs(logits - reference).max() <= 1e-5 * max(1.0, np.abs(reference).max())


def torch_onnx(net: StaticNet, images: torch.Tensor) -> onnxruntime.InferenceSession:
    program = torch.onnx.export(net, (images,), dynamo=True, external_data=False, verbose=False)
    assert program is not None
    content = program.model_proto.SerializeToString()
    return onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])


# ---------------------------------------------------------------------- complete in itself


def test_one_valid_file_of_the_promised_opset(trained: TrainedRun, arch: Arch) -> None:
    path = export(trained, arch).path
    model = onnx.load(path, load_external_data=False)
    onnx.checker.check_model(model, full_check=True)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", onnx_graph.OPSET)]
    assert not any(tensor.external_data for tensor in model.graph.initializer)
    names = [f"{arch.id}.json", f"{arch.id}.onnx", READER]
    assert sorted(p.name for p in path.parent.iterdir()) == names


def test_card_describes_the_deployment_and_agrees_with_the_model(trained: TrainedRun, arch: Arch) -> None:
    path = export(trained, arch, extra={"device": "desk", "predicted_latency_ms": 0.125}).path
    card = card_of(path)
    assert Arch.from_json(json.dumps(card["arch"])) == arch
    assert (card["arch_id"], card["space"], card["dataset"]) == (arch.id, "tiny", "digits")
    assert card["class_names"] == [str(digit) for digit in range(10)]
    assert card["resolution"] == arch["resolution"]
    assert card["preprocess"] == trained.dataset.preprocess.card(int(arch["resolution"]))
    assert card["measured_on"].startswith("arrays of 8-bit pixels in memory, 8 x 8 each")
    assert card["validation_metrics"] == trained.evaluator()([arch], "again")[0]
    assert card["calibration"] == Calibration().key
    assert (card["macs"], card["params"]) == (trained.space.macs(arch), trained.space.params(arch))
    assert {"torch", "onnxruntime", "elastic-nas"} <= card["versions"].keys()
    metadata = onnx_metadata(path)
    assert (metadata["device"], metadata["predicted_latency_ms"]) == ("desk", "0.125")  # plain text
    stored = {key: text if isinstance(card[key], str) else json.loads(text) for key, text in metadata.items()}
    assert stored == {key: value for key, value in card.items() if key != "max_difference_to_torch"}


def run_alone(path: Path, images: NDArray[np.uint8], folder: Path) -> NDArray[np.int64]:
    """Predicted classes of images, by what lies in the folder of exports: file, card and reader."""
    read = runpy.run_path(str(path.parent / READER))["network_input"]
    card, model = card_of(path), session(path)
    answers = []
    for raw in images:
        Image.fromarray(raw).save(folder / "image.png")
        x = read(folder / "image.png", card["preprocess"])
        answers.append(int(model.run(None, {model.get_inputs()[0].name: x})[0].argmax()))
    return np.array(answers)


@pytest.mark.slow
def test_file_and_card_alone_reproduce_the_accuracy_of_the_report(
    searched: TrainedRun, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(final_test, "N_RANDOM", 2)
    exported = export_subnets(searched, "all")
    report_run(searched)
    split = searched.dataset.split("test")
    assert isinstance(split.images, np.ndarray)
    names = np.array(card_of(exported[0].path)["class_names"])
    truth = np.array(searched.dataset.output_names)[split.targets]
    test = (
        searched.run.search()
        .read_csv(TEST)
        .drop_duplicates("arch_id", keep="last")
        .set_index("arch_id")["top1"]
    )
    assert test.nunique() > 1
    for file in exported:
        answers = names[run_alone(file.path, split.images, tmp_path)]
        assert np.mean(answers == truth) == pytest.approx(test[file.arch.id])


# ---------------------------------------------------------------------- torch.export

ALONE = """
import sys, types

class Refused:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("nas", "search_spaces", "hw_profiles", "predictors"):
            raise ImportError(name)

sys.meta_path.insert(0, Refused())
import json, runpy, safetensors.torch, torch
extra = {"card.json": ""}
program = torch.export.load(sys.argv[1], extra_files=extra).module()
images = torch.load(sys.argv[2])
code = runpy.run_path(sys.argv[1].replace(".pt2", ".py"))
net = code["Net"]().eval()
net.load_state_dict(safetensors.torch.load_file(sys.argv[1].replace(".pt2", ".safetensors")))
torch.testing.assert_close(net(images), program(images), atol=1e-5, rtol=1e-5)
torch.save(program(images), sys.argv[3])
print(json.loads(extra["card.json"])["arch_id"])
"""


@pytest.mark.slow
def test_torch_file_loads_with_torch_alone(trained: TrainedRun, arch: Arch, tmp_path: Path) -> None:
    path = export(trained, arch, Target(batch=None), file_format="torch").path
    assert path.suffix == ".pt2"
    images, _ = next(iter(eval_batches(trained.dataset, "validation", trained.space.image_size(arch), 7)))
    torch.save(images, tmp_path / "images.pt")
    done = subprocess.run(
        [sys.executable, "-c", ALONE, str(path), str(tmp_path / "images.pt"), str(tmp_path / "logits.pt")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == arch.id
    with torch.no_grad():
        expected = trained.evaluator().subnet(arch)(images)
    torch.testing.assert_close(torch.load(tmp_path / "logits.pt"), expected, atol=1e-5, rtol=1e-5)


# ---------------------------------------------------------------------- as a step of a run


def test_picked_subnets_carry_the_device_and_both_latencies(searched: TrainedRun) -> None:
    front = searched.run.search().read_csv(FRONT).set_index("arch_id")
    (file,) = export_subnets(searched, "knee")
    metadata = onnx_metadata(file.path)
    row = front.loc[file.arch.id]
    assert metadata["device"] == "desk"
    assert float(metadata["predicted_latency_ms"]) == pytest.approx(row["latency_ms"])
    assert float(metadata["measured_latency_ms"]) == pytest.approx(row["measured_latency_ms"])
    assert exported_table([file], "top1").to_dict("records") == [
        {
            "arch_id": file.arch.id,
            "precision": "fp32",
            "file": str(file.path),
            "top1": row["top1"],
            "fp32_top1": row["top1"],
            "max_difference": file.max_difference,
        }
    ]


def test_any_subnet_of_a_searched_run_carries_the_device_and_its_prediction(searched: TrainedRun) -> None:
    device = make_device(searched.space, batch=2)
    write_device(searched.run.file(PROFILES) / "desk", device)
    archs = [searched.space.smallest]
    (file,) = export_subnets(searched, archs)
    metadata = onnx_metadata(file.path)
    expected = device.table.predict(searched.space.encode(archs), searched.space)[0]
    assert float(metadata["predicted_latency_ms"]) == pytest.approx(expected)
    assert session(file.path).get_inputs()[0].shape[0] == 2  # the device's batch
    fixed = file.path.read_bytes()
    (dynamic,) = export_subnets(searched, archs, dynamic_batch=True)
    assert (dynamic.path != file.path, file.path.read_bytes()) == (True, fixed)
    assert json.loads(file.path.with_suffix(".json").read_text())["batch"] == 2
    assert json.loads(dynamic.path.with_suffix(".json").read_text())["batch"] == "dynamic"
    assert session(dynamic.path).get_inputs()[0].shape[0] == "batch"


def test_before_any_search_a_subnet_is_exported_by_its_arch_alone(trained: TrainedRun, arch: Arch) -> None:
    seen = []
    (file,) = export_subnets(trained, [arch], progress=lambda *now: seen.append(now))
    assert seen == [("export", 1, 1)]
    assert "predicted_latency_ms" not in onnx_metadata(file.path)
    with pytest.raises(ValueError, match=r"no front yet; search with `nas search .* --device NAME`"):
        export_subnets(trained, "knee")


def test_bad_options_write_nothing(trained: TrainedRun, arch: Arch) -> None:
    with pytest.raises(ValueError, match=r"format must be one of \['onnx', 'torch'\], got 'tflite'"):
        export(trained, arch, file_format="tflite")
    with pytest.raises(ValueError, match="must have a value for each active choice"):
        export(trained, Arch({"resolution": 8}))
    assert not trained.run.has(EXPORTS)
