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
    """Eight images, of which the last four are told apart perfectly."""
    order = ImportanceSampling(8)
    labels = torch.zeros(8, dtype=torch.int64)
    logits = torch.tensor([[0.0, 0.0]] * 4 + [[50.0, 0.0]] * 4)
    order.observe(np.arange(8), TASK.errors(logits, labels))
    return order


def test_uniform_leaves_the_order_to_the_loader() -> None:
    assert DATA_ORDERS["shuffled"](8).epoch(0, rng(), 0.5) is None


def test_norm_is_that_of_the_error_of_the_probabilities() -> None:
    # (1/2, 1/2) - (1, 0) has norm sqrt(1/2); a sure and right answer has norm 0
    assert observed().norms.tolist() == pytest.approx([0.5**0.5] * 4 + [0.0] * 4)


def test_mixed_labels_are_targets_too() -> None:
    assert TASK.errors(torch.zeros(1, 2), torch.tensor([[0.5, 0.5]])).tolist() == [0.0]


def test_errors_are_norms_of_the_gradient_of_the_loss() -> None:
    logits, labels = (
        torch.randn(5, 3, generator=torch.Generator().manual_seed(0)),
        torch.tensor([0, 1, 2, 0, 1]),
    )
    torch.testing.assert_close(TASK.errors(logits, labels), Task.errors(TASK, logits, labels))


def test_wrong_images_are_drawn_more_as_training_goes_on() -> None:
    def share_of_wrong(progress: float) -> float:
        order = observed()
        drawn = [order.epoch(epoch, np.random.default_rng(epoch), progress) for epoch in range(200)]
        return float((np.concatenate(drawn) < 4).mean())

    # 1,600 draws: standard error 0.0125
    assert share_of_wrong(0.0) == pytest.approx(0.5, abs=0.05)
    assert share_of_wrong(0.5) == pytest.approx(0.75, abs=0.05)
    assert share_of_wrong(1.0) == 1.0


def test_resumed_inside_an_epoch_it_draws_the_same_epoch_again() -> None:
    order = observed()
    first = order.epoch(3, rng(), 0.9)
    order.observe(np.array([0, 5]), TASK.errors(torch.tensor([[9.0, 0.0], [0.0, 9.0]]), torch.tensor([0, 0])))
    resumed = ImportanceSampling(8)
    resumed.load_state_dict(order.state_dict())
    assert resumed.epoch(3, rng(), 0.9).tolist() == first.tolist()
    assert resumed.epoch(4, rng(), 0.9).tolist() == order.epoch(4, rng(), 0.9).tolist()
    assert 5 in resumed.epoch(5, rng(), 0.9)  # wrong by now
