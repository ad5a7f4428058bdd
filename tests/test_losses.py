import math

import pytest
import torch

from nas.losses import distillation_loss, label_loss

LOGITS = torch.tensor([[math.log(2.0), 0.0, 0.0]])  # softmax: 1/2, 1/4, 1/4


def test_smoothing_spreads_its_share_over_all_classes() -> None:
    # target with smoothing 0.3 on class 0: 0.7 + 0.1, 0.1, 0.1
    expected = 0.8 * math.log(2) + 0.2 * math.log(4)
    assert label_loss(LOGITS, torch.tensor([0]), 0.3).item() == pytest.approx(expected)
    assert label_loss(LOGITS, torch.tensor([0]), 0.0).item() == pytest.approx(math.log(2))


def test_distillation_is_the_cross_entropy_to_the_teacher() -> None:
    # the entropy of (1/2, 1/4, 1/4) is 1.5 bits; the uniform student pays log 3
    assert distillation_loss(LOGITS, LOGITS).item() == pytest.approx(1.5 * math.log(2))
    assert distillation_loss(torch.zeros(1, 3), LOGITS).item() == pytest.approx(math.log(3))


def test_teacher_learns_nothing_from_the_student() -> None:
    student, teacher = torch.zeros(1, 3, requires_grad=True), LOGITS.clone().requires_grad_()
    distillation_loss(student, teacher).backward()
    assert teacher.grad is None
    # softmax(student) - softmax(teacher) = 1/3 - (1/2, 1/4, 1/4)
    torch.testing.assert_close(student.grad, torch.tensor([[-1 / 6, 1 / 12, 1 / 12]]))
