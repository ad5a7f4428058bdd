import math
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nas.tasks.base import DistillationLoss
from nas.tasks.classification.losses import (
    DISTILLATION_LOSSES,
    adaptive_alpha_loss,
    kl_loss,
    label_loss,
)

LOGITS = torch.tensor([[math.log(2.0), 0.0, 0.0]])  # softmax: 1/2, 1/4, 1/4
HALF = torch.tensor([[0.5, 0.25, 0.25]])


def test_smoothing_is_uniform_over_all_classes() -> None:
    # target with smoothing 0.3 on class 0: 0.7 + 0.1, 0.1, 0.1
    expected = 0.8 * math.log(2) + 0.2 * math.log(4)
    assert label_loss(LOGITS, torch.tensor([0]), 0.3).item() == pytest.approx(expected)
    assert label_loss(LOGITS, torch.tensor([0]), 0.0).item() == pytest.approx(math.log(2))


def test_mixed_labels_are_probabilities() -> None:
    # 3/4 of class 0 and 1/4 of class 2
    expected = 0.75 * math.log(2) + 0.25 * math.log(4)
    assert label_loss(LOGITS, torch.tensor([[0.75, 0.0, 0.25]]), 0.0).item() == pytest.approx(expected)


def test_kl_loss_is_the_cross_entropy_to_the_teacher() -> None:
    # the entropy of (1/2, 1/4, 1/4) is 1.5 bits; the cross-entropy of a uniform student is log 3
    assert kl_loss(LOGITS, HALF).item() == pytest.approx(1.5 * math.log(2))
    assert kl_loss(torch.zeros(1, 3), HALF).item() == pytest.approx(math.log(3))


@pytest.mark.parametrize("loss", DISTILLATION_LOSSES.values())
def test_teacher_gets_no_gradient(loss: DistillationLoss) -> None:
    student, teacher = torch.zeros(1, 3, requires_grad=True), HALF.clone().requires_grad_()
    loss(student, teacher).backward()
    assert teacher.grad is None
    assert student.grad is not None


def test_gradient_of_kl_loss() -> None:
    student = torch.zeros(1, 3, requires_grad=True)
    kl_loss(student, HALF).backward()
    # softmax(student) - softmax(teacher) = 1/3 - (1/2, 1/4, 1/4)
    torch.testing.assert_close(student.grad, torch.tensor([[-1 / 6, 1 / 12, 1 / 12]]))


def divergence(student: Tensor, teacher: Tensor, alpha: float) -> Tensor:
    """The alpha-divergence of each image by its definition, differentiable."""
    p, q = teacher, student.softmax(1)
    if alpha == 1:
        return (p * (p / q).log()).sum(1)
    return (q * ((p / q) ** alpha - 1)).sum(1) / (alpha * (alpha - 1))


@pytest.mark.parametrize("alpha", [-1.0, -0.5, 0.5, 1.0, 2.0])
def test_alpha_divergence_has_value_and_gradient_of_its_definition(alpha: float) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(5, 4, generator=generator, dtype=torch.float64)
    teacher = torch.randn(5, 4, generator=generator, dtype=torch.float64).softmax(1)
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    # no ratio of probabilities reaches a clip of a million
    loss = adaptive_alpha_loss(ours, teacher, (alpha, alpha), clip=1e6)
    expected = divergence(theirs, teacher, alpha).mean()
    loss.backward()
    expected.backward()
    torch.testing.assert_close(loss.double(), expected, atol=1e-5, rtol=1e-5)  # float32
    torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-5, rtol=1e-5)


def test_loss_is_the_larger_divergence_of_each_image() -> None:
    teacher = torch.tensor([[0.9, 0.1], [0.1, 0.9]])
    # the first student overestimates the unlikely class, the second one underestimates it
    logits = torch.tensor([[0.0, 0.0], [0.0, 5.0]])
    below, above = (divergence(logits, teacher, alpha) for alpha in (-1.0, 1.0))
    assert (above > below).tolist() == [False, True]
    expected = torch.maximum(below, above).mean()
    assert adaptive_alpha_loss(logits, teacher, clip=1e6).item() == pytest.approx(expected.item(), rel=1e-5)


def test_clip_limits_the_gradient_of_overestimates() -> None:
    # the teacher's probability of class 0 is only 1e-6: without clipping, the gradient would be about 1e6
    student = torch.zeros(1, 2, requires_grad=True)
    adaptive_alpha_loss(student, torch.tensor([[1e-6, 1 - 1e-6]]), (-1.0, -1.0)).backward()
    assert student.grad is not None
    # q (w/alpha + 1/2), summed over the classes, has magnitude at most clip + 1/2
    assert 0.1 < student.grad.abs().max() < 5.5


EXTREME = st.sampled_from([-1e30, -1e4, -200.0, -1.0, 0.0, 3.0, 150.0, 1e4, 1e30])


@settings(max_examples=30, deadline=None)
@given(
    st.lists(EXTREME, min_size=3, max_size=3),
    st.lists(EXTREME, min_size=3, max_size=3),
    st.sampled_from([torch.float32, torch.bfloat16]),
)
def test_adaptive_alpha_is_finite_where_probabilities_underflow(
    student: list[float], teacher: list[float], dtype: torch.dtype
) -> None:
    logits = torch.tensor([student], dtype=dtype).requires_grad_()
    loss = adaptive_alpha_loss(logits, torch.tensor([teacher], dtype=dtype).softmax(1))
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.isfinite()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_loss_and_gradient_are_zero_for_a_student_equal_to_the_teacher() -> None:
    for scale, classes in product((0.1, 1.0, 10.0), (2, 5)):
        logits = torch.linspace(-scale, scale, classes)[None].requires_grad_()
        loss = adaptive_alpha_loss(logits, logits.detach().softmax(1))
        loss.backward()
        assert loss.item() == pytest.approx(0, abs=1e-5)
        torch.testing.assert_close(logits.grad, torch.zeros_like(logits), atol=1e-6, rtol=0)
