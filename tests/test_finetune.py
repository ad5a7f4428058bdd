import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from hw_profiles.measuring.runner.device_description import instruction_set
from nas.data.batches import eval_batches
from nas.evaluation.deployed import open_onnx
from nas.evaluation.trained_run import TrainedRun
from nas.export.export_run import export_subnets
from nas.onnx_backend.precision import MIXED, blocks_in
from nas.recipes.groups import ComputeConfig, DataConfig, FinetuningConfig, SgdConfig
from nas.recipes.recipe import Recipe
from nas.runs.files import SUPERNET
from nas.runs.weights import load_supernet
from nas.torch_backend.folded import node_weights
from nas.torch_backend.supernet import Supernet
from nas.training.fake_quantization import FakeQuantization
from nas.training.finetune import finetune
from nas.training.optimizers import LR_SCALE, parameter_groups
from search_spaces import Arch, Space
from search_spaces.precision_space import with_precision


@pytest.fixture
def recipe() -> Recipe:
    return Recipe(
        space="digits",
        epochs=1,
        data=DataConfig(dataset="digits", batch_size=128),
        optimizer=SgdConfig(lr=0.05),
        compute=ComputeConfig(accelerator="cpu"),
    )


def test_finetuned_run_evaluates_and_exports(
    trained: TrainedRun, recipe: Recipe, tiny_arch: Arch, tmp_path: Path
) -> None:
    before = trained.evaluator()([tiny_arch], "test")[0]["cross_entropy"]
    more = recipe.replace({"epochs": 3})
    tuned = TrainedRun.open(finetune(trained.run.path, tiny_arch, more, tmp_path / "tuned").path)
    assert tuned.info.arch == tiny_arch
    assert tuned.notable_archs == [tiny_arch]
    assert tuned.space.resolutions == (int(tiny_arch["resolution"]),)
    assert tuned.evaluator()([tiny_arch], "test")[0]["cross_entropy"] < before
    tuned.check_trained([tiny_arch])
    with pytest.raises(
        ValueError, match=f"has only one subnet, {tiny_arch.id}; .* was not trained in it: leave"
    ):
        tuned.check_trained([tiny_arch, tuned.space.largest])
    (exported,) = export_subnets(tuned, [tiny_arch])
    assert exported.path.exists()


def test_weights_of_other_subnets_do_not_change(
    trained: TrainedRun, recipe: Recipe, tiny: Space, tmp_path: Path
) -> None:
    no_decay = recipe.replace({"optimizer.weight_decay": 0.0})  # weight decay changes all weights
    tuned = load_supernet(finetune(trained.run.path, trained.space.smallest, no_decay, tmp_path / "tuned"))
    name, width = "stem.conv.weight", int(trained.space.smallest["stem.width"])
    after, before = tuned.get_parameter(name), trained.supernet.get_parameter(name)
    assert not torch.equal(after[:width], before[:width])
    assert torch.equal(after[width:], before[width:])


@pytest.mark.parametrize("pattern", ["uniform", "mixed"])
def test_exported_file_computes_what_was_trained_with_rounding(
    trained: TrainedRun, recipe: Recipe, tiny_arch: Arch, tmp_path: Path, pattern: str
) -> None:
    int8_for = instruction_set()
    space = with_precision(trained.space, "block")
    arch = space.uniform(tiny_arch, "int8")
    if pattern == "mixed":
        arch |= {"stem.bits": 32, "stages.1.blocks.0.bits": 32}
    finetune(trained.run.path, arch, recipe, tmp_path / "tuned", int8_for=int8_for)
    tuned = TrainedRun.open(tmp_path / "tuned")
    assert (tuned.info.arch, tuned.info.quantised) == (tiny_arch, arch)
    (exported,) = export_subnets(tuned, [arch], dynamic_batch=True, calibration="minmax")
    assert exported.path.name == f"{arch.id}.dynamic.mixed.onnx"

    net, ranges = tuned.evaluator().subnet(tiny_arch), tuned.ranges[tiny_arch.id, "minmax"]
    rounding = FakeQuantization(blocks_in(tuned.space, arch, MIXED), int8_for, ranges)
    images, _ = next(iter(eval_batches(tuned.dataset, "validation", 8, 256)))
    with torch.no_grad():
        emulated = rounding(images, lambda node: node_weights(net, node.path), net._compute).numpy()
    outputs = open_onnx(exported.path.read_bytes())(images.numpy())
    low, high = ranges["logits"]
    steps = np.abs(outputs - emulated) / ((high - low) / 255)
    # the file rounds biases too, which moves some values to the next of the 256 steps of their range
    assert steps.max() < 2.5
    assert steps.mean() < 0.2
    assert np.abs(outputs - net(images).detach().numpy()).mean() > np.abs(outputs - emulated).mean()


def test_finetuning_resumes(trained: TrainedRun, recipe: Recipe, tiny_arch: Arch, tmp_path: Path) -> None:
    def interrupt(what: str, done: int, total: int) -> None:
        if done == 2:
            signal.raise_signal(signal.SIGTERM)

    recipe = recipe.replace({"data.batch_size": 256})
    whole = finetune(trained.run.path, tiny_arch, recipe, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        finetune(trained.run.path, tiny_arch, recipe, tmp_path / "parts", progress=interrupt)
    parts = finetune(trained.run.path, tiny_arch, recipe, tmp_path / "parts", resume=True)
    assert parts.file(SUPERNET).read_bytes() == whole.file(SUPERNET).read_bytes()


def test_arch_of_another_space_is_an_error_and_creates_no_run(
    trained: TrainedRun, recipe: Recipe, tiny_arch: Arch, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"head\.width must be one of"):
        finetune(trained.run.path, tiny_arch | {"head.width": 7}, recipe, tmp_path / "tuned")
    assert not (tmp_path / "tuned").exists()


def test_classifier_has_its_own_learning_rate(tiny: Space, recipe: Recipe) -> None:
    supernet = Supernet(tiny)
    groups = parameter_groups(supernet, recipe.optimizer, FinetuningConfig(head_lr=0.2))
    assert [group[LR_SCALE] for group in groups] == pytest.approx([1, 1, 4, 4])  # 0.2 / 0.05
    weight, bias = groups[2]["params"], groups[3]["params"]
    assert [id(p) for p in (*weight, *bias)] == [id(p) for p in supernet.classifier.parameters()]
    assert [group["weight_decay"] for group in groups] == [
        recipe.optimizer.weight_decay,
        0,
        recipe.optimizer.weight_decay,
        0,
    ]
    assert sum(len(group["params"]) for group in groups) == len(list(supernet.parameters()))


def test_frozen_body_does_not_change(
    trained: TrainedRun, recipe: Recipe, tiny_arch: Arch, tmp_path: Path
) -> None:
    frozen = recipe.replace({"finetuning.freeze_body": True})
    tuned = load_supernet(finetune(trained.run.path, tiny_arch, frozen, tmp_path / "tuned"))
    source = trained.supernet.state_dict()
    changed = {name for name, weight in tuned.state_dict().items() if not torch.equal(weight, source[name])}
    assert changed == {"head.classifier.weight", "head.classifier.bias"}
