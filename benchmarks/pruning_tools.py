"""Networks pruned by other tools to a latency limit: Torch-Pruning, and FastNAS of NVIDIA's Model Optimizer.

Both tools return one network at a time, for a limit of FLOPs instead of latency. Therefore the size of the
network is bisected, and the largest network whose measured latency is within the limit is taken. The tools
are not requirements of this package: `pip install torch-pruning nvidia-modelopt 'torchprofile<0.1'`.
"""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

Batches = Sequence[tuple[Tensor, Tensor]]
"""Images (n, channels, size, size) and targets (n,)."""
Latency = Callable[[nn.Module], float]
"""Measures the latency of a network in ms."""
DIVISOR = 4
"""Channels are rounded to multiples of this, as in the supernet."""
STEPS = 5
"""Bisections of the size of a network."""


class TorchPruning:
    """Pruning by the norm of coupled channels (Fang et al. 2023), the same share of channels in all layers.

    Args:
        network: the trained network.
        image: shape (1, channels, size, size).
    """

    def __init__(self, network: nn.Module, image: Tensor) -> None:
        self._tool = importlib.import_module("torch_pruning")
        self._network, self._image = network.eval(), image

    def __call__(self, size: float) -> nn.Module:
        """The network with a share `size` of its channels."""
        network = copy.deepcopy(self._network)
        classifier = [layer for layer in network.modules() if isinstance(layer, nn.Linear)][-1]
        pruner = self._tool.pruner.MagnitudePruner(
            network,
            self._image,
            importance=self._tool.importance.GroupMagnitudeImportance(p=2),
            pruning_ratio=1 - size,
            ignored_layers=[classifier],
            round_to=DIVISOR,
        )
        pruner.step()
        return network


class FastNas:
    """Search by the sensitivity of single layers under a limit of FLOPs.

    Args:
        network: the trained network.
        image: shape (1, channels, size, size).
        batches: images for recalibrating batch norms.
        score: accuracy of a network on validation images.
        checkpoint: file of the sensitivities, which all limits share.
    """

    def __init__(
        self,
        network: nn.Module,
        image: Tensor,
        batches: Batches,
        score: Callable[[nn.Module], float],
        checkpoint: Path,
    ) -> None:
        self._tool = importlib.import_module("modelopt.torch.prune")
        self._network, self._image = network.eval(), image
        self._config: Mapping[str, Any] = {
            "data_loader": batches,
            "score_func": score,
            "checkpoint": str(checkpoint),
            "verbose": False,
        }
        self._rules = self._tool.fastnas.FastNASConfig().model_dump()
        for rule in self._rules.values():
            for options in rule.values():
                options |= {name: DIVISOR for name in options if name.endswith("_divisor")}

    def __call__(self, size: float) -> nn.Module | None:
        """The best network with a share `size` of the FLOPs; None if the tool finds none that is so small."""
        network = copy.deepcopy(self._network)
        constraints = {"flops": f"{100 * size:.1f}%"}
        try:
            found, _ = self._tool.prune(
                network,
                mode=[("fastnas", self._rules)],
                constraints=constraints,
                dummy_input=self._image,
                config=dict(self._config),
            )
        except ValueError:  # of a limit that cannot be satisfied
            return None
        pruned: nn.Module = found
        return pruned


def largest_within(
    make: Callable[[float], nn.Module | None], limit_ms: float, latency: Latency
) -> nn.Module | None:
    """The largest network of a tool whose measured latency is within a limit.

    Args:
        make: makes the network of a size above 0 and at most 1, or returns None if there is no such network.
        limit_ms: limit of the latency.
        latency: measures it.

    Returns:
        the network, or None if no network that was tried is within the limit.
    """
    low, high, best = 0.0, 1.0, None
    for _ in range(STEPS):
        size = (low + high) / 2
        network = make(size)
        if network is None:
            low = size
        elif latency(network) <= limit_ms:
            low, best = size, network
        else:
            high = size
    return best


def train_for(
    network: nn.Module, steps: int, batches: Callable[[int], tuple[Tensor, Tensor]], lr: float
) -> None:
    """Fine-tune a network on labels with SGD and a cosine schedule.

    Strided 1 x 1 convolutions are replaced by slices and convolutions without strides, because oneDNN's
    gradient of strided 1 x 1 convolutions overwrites memory if they have few channels, as in pruned networks.

    Args:
        network: the network.
        steps: number of steps.
        batches: returns the batch of a step.
        lr: the first learning rate.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1) and layer.stride != (1, 1):
            layer.register_forward_pre_hook(partial(_every_pixel, layer.stride[0]))
            layer.stride = (1, 1)
    optimizer = torch.optim.SGD(network.parameters(), lr, momentum=0.9, weight_decay=1e-4, nesterov=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(steps, 1))
    network.train()
    for step in range(steps):
        x, y = batches(step)
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(x), y).backward()
        optimizer.step()
        schedule.step()
    network.eval()


def _every_pixel(stride: int, _layer: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
    """Every `stride`-th row and column of the input of a layer."""
    return (inputs[0][:, :, ::stride, ::stride],)
