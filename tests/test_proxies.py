"""What one batch says about a subnet."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import nn

from nas.evaluation.proxies import PROXIES, ProxyColumns
from predictors import Features

if TYPE_CHECKING:
    from nas.evaluation.trained_run import TrainedRun

IMAGES = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
LABELS = torch.tensor([0, 1])
LOSS = nn.functional.cross_entropy


def linear() -> nn.Linear:
    """Two classes from two numbers, without bias; all weights zero but one."""
    net = nn.Linear(2, 2, bias=False)
    net.weight.data = torch.tensor([[3.0, 0.0], [0.0, 0.0]])
    return net


def test_loss_and_gradients_by_hand() -> None:
    # logits (3, 0) and (0, 0): losses log(1 + e^-3) and log 2
    loss = (math.log(1 + math.exp(-3)) + math.log(2)) / 2
    assert PROXIES["batch_loss"](linear(), IMAGES, LABELS, LOSS) == pytest.approx(math.log(loss))
    # probability of the wrong class: q = 1 / (1 + e^3) and 1/2; the rows of the gradient are ± the mean of
    # q · (1, 0) and ½ · (0, -2), which is (-q, 1) / 2 and its negative
    q = 1 / (1 + math.exp(3))
    norm = math.sqrt(2 * (q**2 + 1)) / 2
    assert PROXIES["grad_norm"](linear(), IMAGES, LABELS, LOSS) == pytest.approx(math.log(norm), rel=1e-5)
    # the one weight that is not zero, 3, times its gradient -q / 2
    assert PROXIES["snip"](linear(), IMAGES, LABELS, LOSS) == pytest.approx(math.log(3 * q / 2), rel=1e-5)


def test_synflow_is_the_flow_through_absolute_weights() -> None:
    net = linear()
    net.weight.data *= -1
    # ones through |W|: the output's sum is the sum of |W| = 3, each weight's share its own size
    assert PROXIES["synflow"](net, IMAGES, LABELS, LOSS) == pytest.approx(math.log(3))


def test_gradsign_counts_agreeing_images() -> None:
    # image 1 alone moves the first column, image 2 the second: each of four weights has one sign, no clash
    assert PROXIES["gradsign"](linear(), IMAGES, LABELS, LOSS) == pytest.approx(math.log(4))
    # the same image with both labels pulls all weights of its column both ways
    twice = PROXIES["gradsign"](linear(), IMAGES[[0, 0]], LABELS, LOSS)
    assert twice < 0


def test_naswot_prefers_units_that_tell_images_apart() -> None:
    def net(weight: list[list[float]]) -> nn.Module:
        conv = nn.Conv2d(1, 2, 1, bias=False)
        conv.weight.data = torch.tensor(weight)[:, :, None, None]
        return nn.Sequential(conv, nn.BatchNorm2d(2)).eval()

    images = torch.tensor([1.0, -1.0])[:, None, None, None]
    weights = [[0.0], [0.0]], [[1.0], [-1.0]]
    blind, seeing = (PROXIES["naswot"](net(weight), images, LABELS, LOSS) for weight in weights)
    assert seeing > blind


@pytest.mark.slow
def test_columns_of_a_run_are_repeatable_and_leave_the_supernet_alone(trained: TrainedRun) -> None:
    genomes = trained.space.sample(np.random.default_rng(0), 3)
    before = {name: tensor.clone() for name, tensor in trained.supernet.state_dict().items()}
    features = Features(
        trained.space, ProxyColumns(trained.supernet, trained.dataset, trained.task).columns()
    )
    matrix = features(genomes)
    again = Features(trained.space, ProxyColumns(trained.supernet, trained.dataset, trained.task).columns())(
        genomes[::-1]
    )
    np.testing.assert_array_equal(matrix, again[::-1])
    for name in PROXIES:
        column = matrix[:, features.groups[f"extra.{name}"]]
        assert np.isfinite(column).all()
    for name, tensor in trained.supernet.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_a_subnet_is_asked_once(trained: TrainedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[None] = []
    monkeypatch.setitem(PROXIES, "snip", lambda *_: asked.append(None) or 1.0)  # type: ignore[func-returns-value]
    column = ProxyColumns(trained.supernet, trained.dataset, trained.task).columns()["snip"]
    genomes = trained.space.encode([trained.space.smallest, trained.space.largest])
    assert column(np.concatenate([genomes, genomes])).tolist() == [1.0] * 4
    assert len(asked) == 2
