import pytest
import torch
from torch import nn
from torch.optim import SGD

from nas.training.optimizers import SharedWeightsSGD


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_weights_without_gradients_in_some_steps_are_updated_as_by_sgd(momentum: float) -> None:
    weights = [nn.Parameter(torch.ones(3)) for _ in range(4)]
    ours, theirs = weights[:2], weights[2:]
    fused = SharedWeightsSGD(ours, lr=0.1, momentum=momentum, nesterov=momentum > 0, fused=True)
    reference = SGD(theirs, lr=0.1, momentum=momentum, nesterov=momentum > 0, foreach=False)
    for step in range(5):  # the second weight has a gradient from the third step on
        for pair in (ours, theirs):
            pair[0].grad = torch.full((3,), 1.0 + step)
            pair[1].grad = torch.full((3,), 2.0) if step >= 2 else None
        fused.step()
        reference.step()
        for weight, expected in zip(ours, theirs, strict=True):
            torch.testing.assert_close(weight, expected)
    assert not torch.equal(ours[1], torch.ones(3))
