import pytest
import torch
from torch import nn
from torch.optim import SGD

from nas.training.optimizers import SharedWeightsSGD


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_weights_that_wait_for_a_gradient_move_as_in_plain_sgd(momentum: float) -> None:
    weights = [nn.Parameter(torch.ones(3)) for _ in range(4)]
    mine, plain = weights[:2], weights[2:]
    fused = SharedWeightsSGD(mine, lr=0.1, momentum=momentum, nesterov=momentum > 0, fused=True)
    usual = SGD(plain, lr=0.1, momentum=momentum, nesterov=momentum > 0, foreach=False)
    for step in range(5):  # the second weight has a gradient from the third step on
        for weight in (mine, plain):
            weight[0].grad = torch.full((3,), 1.0 + step)
            weight[1].grad = torch.full((3,), 2.0) if step >= 2 else None
        fused.step()
        usual.step()
        for ours, theirs in zip(mine, plain, strict=True):
            torch.testing.assert_close(ours, theirs)
    assert not torch.equal(mine[1], torch.ones(3))
