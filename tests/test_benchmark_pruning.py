"""The comparison with pruning tools: the parts that do not need the tools."""

import pytest
import torch
from torch import Tensor, nn

from benchmarks.pruning_tools import DIVISOR, STEPS, TorchPruning, largest_within, train_for


def _network(channels: int) -> nn.Sequential:
    """A network with a narrow strided 1 x 1 convolution."""
    return nn.Sequential(
        nn.Conv2d(3, channels, 1, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 2)
    )


@pytest.mark.parametrize("smallest", [0.0, 0.2])
@pytest.mark.parametrize("limit", [0.1, 0.3, 0.62, 0.99])
def test_largest_network_within_a_limit(limit: float, smallest: float) -> None:
    def make(size: float) -> nn.Module | None:
        return _network(max(1, round(100 * size))) if size >= smallest else None

    def latency(network: nn.Module) -> float:
        return sum(weight.shape[0] for weight in network.parameters() if weight.ndim == 4) / 100

    found = largest_within(make, limit, latency)
    if limit < smallest:
        assert found is None
        return
    assert found is not None
    assert limit - 0.5**STEPS - 0.01 <= latency(found) <= limit  # sizes are rounded to hundredths


def test_training_lowers_the_loss() -> None:
    torch.manual_seed(0)
    network = _network(DIVISOR)
    x, y = torch.randn(32, 3, 8, 8), torch.arange(32) % 2
    x[y == 1] += 1

    def batches(step: int) -> tuple[Tensor, Tensor]:
        return x, y

    strided, before = network(x), nn.functional.cross_entropy(network(x), y)
    train_for(network, 0, batches, 0.1)
    torch.testing.assert_close(network(x), strided)
    train_for(network, 20, batches, 0.1)
    assert nn.functional.cross_entropy(network(x), y) < 0.5 * before


def test_channels_of_torch_pruning() -> None:
    pytest.importorskip("torch_pruning", reason="Torch-Pruning is not installed")
    layers = [nn.Conv2d(3, 16, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 2)]
    pruned = TorchPruning(nn.Sequential(*layers), torch.zeros(1, 3, 8, 8))(0.5)
    assert pruned(torch.zeros(1, 3, 8, 8)).shape == (1, 2)
    assert next(pruned.parameters()).shape[0] == 8
