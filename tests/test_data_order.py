import numpy as np
import pytest
import torch

from nas import tasks
from nas.tasks import Task
from nas.training.data_order import DATA_ORDERS, ImportanceSampling

TASK = tasks.get("classification")


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def observed() -> ImportanceSampling:
    """A data order of eight images; the last four have no error."""
    order = ImportanceSampling(8)
    labels = torch.zeros(8, dtype=torch.int64)
    logits = torch.tensor([[0.0, 0.0]] * 4 + [[50.0, 0.0]] * 4)
    order.observe(np.arange(8), TASK.errors(logits, labels))
    return order


def test_shuffled_order_is_that_of_the_loader() -> None:
    assert DATA_ORDERS["shuffled"](8).epoch(0, rng(), 0.5) is None


def test_error_is_the_norm_of_the_error_of_the_probabilities() -> None:
    # (1/2, 1/2) - (1, 0) has norm sqrt(1/2); the norm of a confident correct prediction is 0
    assert observed().norms.tolist() == pytest.approx([0.5**0.5] * 4 + [0.0] * 4)


def test_mixed_labels_have_errors() -> None:
    assert TASK.errors(torch.zeros(1, 2), torch.tensor([[0.5, 0.5]])).tolist() == [0.0]


def test_errors_are_norms_of_the_gradient_of_the_loss() -> None:
    logits, labels = (
        torch.randn(5, 3, generator=torch.Generator().manual_seed(0)),
        torch.tensor([0, 1, 2, 0, 1]),
    )
    torch.testing.assert_close(TASK.errors(logits, labels), Task.errors(TASK, logits, labels))


def test_images_with_errors_are_drawn_more_often_as_training_progresses() -> None:
    def share_of_wrong(progress: float) -> float:
        order = observed()
        drawn = [order.epoch(epoch, np.random.default_rng(epoch), progress) for epoch in range(200)]
        return float((np.concatenate(drawn) < 4).mean())

    # 1,600 draws: standard error 0.0125
    assert share_of_wrong(0.0) == pytest.approx(0.5, abs=0.05)
    assert share_of_wrong(0.5) == pytest.approx(0.75, abs=0.05)
    assert share_of_wrong(1.0) == 1.0


def test_order_of_an_epoch_does_not_change_after_resuming() -> None:
    order = observed()
    first = order.epoch(3, rng(), 0.9)
    order.observe(np.array([0, 5]), TASK.errors(torch.tensor([[9.0, 0.0], [0.0, 9.0]]), torch.tensor([0, 0])))
    resumed = ImportanceSampling(8)
    resumed.load_state_dict(order.state_dict())
    assert resumed.epoch(3, rng(), 0.9).tolist() == first.tolist()
    assert resumed.epoch(4, rng(), 0.9).tolist() == order.epoch(4, rng(), 0.9).tolist()
    assert 5 in resumed.epoch(5, rng(), 0.9)  # its error is 1 now
