from pathlib import Path

import pytest
import torch
from conftest import TINY_YAML
from torch import nn

import search_spaces
from nas import tasks
from nas.evaluation.trained_run import TrainedRun
from nas.recipes.groups import (
    ComputeConfig,
    DataConfig,
    Distillation,
    ExternalDistillationConfig,
    InplaceDistillationConfig,
    LossConfig,
    NoDistillationConfig,
)
from nas.recipes.recipe import Recipe
from nas.runs.files import SUPERNET
from nas.tasks.classification.losses import kl_loss, label_loss
from nas.torch_backend.supernet import Supernet
from nas.training.loaders import resolutions_by_size
from nas.training.supervision import ExternalTeacher, Teacher, load_teachers, make_supervision
from nas.training.train import train
from search_spaces import Space

X, LABELS = torch.randn(4, 1, 8, 8), torch.tensor([0, 1, 2, 0])
CPU = torch.device("cpu")
TASK = tasks.get("classification")
FIRST, SECOND = torch.randn(2, 4, 3)


def make(distillation: Distillation | None = None, init: str | None = None) -> Recipe:
    return Recipe(
        space="digits",
        epochs=1,
        init=init,
        data=DataConfig(dataset="digits", batch_size=448),
        distillation=distillation or InplaceDistillationConfig(),
        loss=LossConfig(label_smoothing=0.0),
        compute=ComputeConfig(accelerator="cpu"),
    )


def external(*teachers: str, label_weight: float = 1.0) -> ExternalDistillationConfig:
    return ExternalDistillationConfig(teachers=teachers, label_weight=label_weight)


class ConstantTeacher(nn.Module):
    """A teacher that always gives the same logits."""

    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.logits


def test_inplace_distillation_trains_the_first_subnet_on_labels_and_the_others_on_its_outputs() -> None:
    loss = make_supervision(make(), TASK, [])(X, LABELS)
    assert loss(FIRST) == label_loss(FIRST, LABELS, 0.0)
    assert loss(SECOND) == kl_loss(SECOND, FIRST.softmax(1))
    assert loss(SECOND) == kl_loss(SECOND, FIRST.softmax(1))
    again = make_supervision(make(), TASK, [])(X, LABELS)  # each step has its own teacher
    assert again(SECOND) == label_loss(SECOND, LABELS, 0.0)


def test_default_smoothing_is_that_of_the_task() -> None:
    for smoothing, used in ((None, 0.1), (0.0, 0.0), (0.3, 0.3)):
        recipe = make().replace({"loss.label_smoothing": smoothing})
        loss = make_supervision(recipe, TASK, [])(X, LABELS)
        assert loss(FIRST) == label_loss(FIRST, LABELS, used)


def test_unknown_distillation_loss_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"one of \['alpha', 'kl'\] for the task 'classification', got 'js'"):
        make_supervision(make(InplaceDistillationConfig(loss="js")), TASK, [])


def test_without_distillation_all_subnets_are_trained_on_labels() -> None:
    loss = make_supervision(make(NoDistillationConfig()), TASK, [])(X, LABELS)
    for logits in (FIRST, SECOND):
        assert loss(logits) == label_loss(logits, LABELS, 0.0)


def test_external_teachers_are_averaged_and_labels_are_weighted() -> None:
    teachers = [
        ConstantTeacher(torch.tensor([[100.0, 0.0, 0.0]] * 4)),
        ConstantTeacher(torch.tensor([[0.0, 100.0, 0.0]] * 4)),
    ]
    mean = torch.tensor([[0.5, 0.5, 0.0]] * 4)  # of probabilities, not of logits
    for weight in (0.25, 0.5):
        recipe = make(external("unused", label_weight=weight))
        loss = make_supervision(recipe, TASK, teachers)(X, LABELS)
        for logits in (FIRST, SECOND):
            expected = kl_loss(logits, mean) + weight * label_loss(logits, LABELS, 0.0)
            torch.testing.assert_close(loss(logits), expected)


def test_teacher_is_the_largest_subnet_in_training_mode(trained: TrainedRun) -> None:
    recipe = make(external("init"), init=str(trained.run.path))
    (teacher,) = load_teachers(recipe, trained.space, trained.dataset.output_names, CPU)
    expected = trained.supernet.train()(X, trained.space.largest)
    torch.testing.assert_close(teacher(X), expected, atol=1e-5, rtol=1e-5)
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    named = make(external(str(trained.run.path)))
    assert len(load_teachers(named, trained.space, trained.dataset.output_names, CPU)) == 1
    assert isinstance(make_supervision(recipe, TASK, [teacher]), ExternalTeacher)


@pytest.mark.parametrize(
    ("teachers", "message"),
    [
        (["init"], "the teacher 'init' needs the key init, a run from which training starts"),
        (["nowhere"], "nowhere is not a run"),
    ],
)
def test_missing_teachers_are_errors(trained: TrainedRun, teachers: list[str], message: str) -> None:
    recipe = make(external(*teachers))
    with pytest.raises(ValueError, match=message):
        load_teachers(recipe, trained.space, trained.dataset.output_names, CPU)


def test_teacher_of_other_images_is_an_error(trained: TrainedRun) -> None:
    recipe = make(external(str(trained.run.path)))
    names = trained.dataset.output_names
    with pytest.raises(ValueError, match="must have the 10 outputs of the data set, in the same order"):
        load_teachers(recipe, trained.space, names[::-1], CPU)
    coloured = trained.space.with_data(outputs=10, channels=3)
    with pytest.raises(ValueError, match="must take images of 3 channels, got 1"):
        load_teachers(recipe, coloured, names, CPU)


def test_subnets_are_trained_with_a_run_as_teacher(trained: TrainedRun, tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(TINY_YAML)
    recipe = make(external(str(trained.run.path))).replace({"space": str(tmp_path / "tiny.yaml")})
    assert train(recipe, tmp_path / "run").has(SUPERNET)


ODD = """\
name: odd
outputs: 10
channels: 1
resolutions: [7, 8]
divisor: 2
stem: {width: [2], stride: 1}
stages:
  - {width: [4], depth: [1], expand: [1, 2], stride: 2, shortcut: pool}
head: {width: [6]}
"""


def test_teacher_takes_images_of_each_size() -> None:
    # a map of 7 pixels is pooled to 4 pixels with padding, one of 8 pixels without
    space = search_spaces.parse(ODD)
    student = space.with_data(outputs=10, channels=1, resolutions=(7, 9))
    supernet = Supernet(space, zero_init_residual=False)
    teacher = Teacher(supernet, list(resolutions_by_size(student)))
    for size in (7, 9):
        x = torch.randn(4, 1, size, size, generator=torch.Generator().manual_seed(0))
        same = Supernet(student, zero_init_residual=False).train()  # the same seed
        torch.testing.assert_close(teacher(x), same(x, student.largest | {"resolution": size}))


def test_imported_network_teaches_with_its_own_statistics(tiny: Space) -> None:
    supernet = Supernet(tiny, zero_init_residual=False)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, statistics in supernet.named_buffers():
            if name.endswith("running_var"):
                statistics.uniform_(0.5, 2.0, generator=generator)
    x = torch.randn(4, 1, 8, 8, generator=generator)
    expected = supernet.eval()(x, tiny.largest)
    sizes = list(resolutions_by_size(tiny))
    torch.testing.assert_close(Teacher(supernet, sizes, own_statistics=True)(x), expected)
    assert not torch.allclose(Teacher(supernet, sizes)(x), expected)
