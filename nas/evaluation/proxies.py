"""Zero-cost proxies: what one batch of training images says about a subnet before it is evaluated.

They read inherited weights, so that they also see how well a subnet's share of the supernet was trained.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nas.data.batches import calibration_batches
from nas.data.dataset import Dataset
from nas.evaluation.calibration import recalibrate
from nas.tasks import Task
from nas.torch_backend.supernet import Supernet
from search_spaces import Arch, Genomes

IMAGES = 64
"""Of the batch."""
SINGLE_IMAGES = 12
"""Of the batch whose gradients are taken one by one."""
TINY = 1e-30
"""Keeps the logarithm of nothing finite."""

Loss = Callable[[Tensor, Tensor], Tensor]
"""Called with outputs and targets."""
Proxy = Callable[[nn.Module, Tensor, Tensor, Loss], float]
"""The proxy of a static network in eval mode, from images (n, c, h, w), targets (n, ...) and the task's loss;
it may change the network."""


def batch_loss(net: nn.Module, images: Tensor, targets: Tensor, loss: Loss) -> float:
    """Logarithm of the loss on the batch."""
    with torch.no_grad():
        return math.log(loss(net(images), targets) + TINY)


def grad_norm(net: nn.Module, images: Tensor, targets: Tensor, loss: Loss) -> float:
    """Logarithm of the norm of the loss's gradient (Abdelfattah et al. 2021, §3.1)."""
    gradient = _gradient(net, loss(net(images), targets))
    return math.log(gradient.norm() + TINY)


def snip(net: nn.Module, images: Tensor, targets: Tensor, loss: Loss) -> float:
    """Logarithm of Σ |weight · gradient| (Lee et al. 2019)."""
    gradient = _gradient(net, loss(net(images), targets))
    return math.log((_weights(net) * gradient).abs().sum() + TINY)


def synflow(net: nn.Module, images: Tensor, targets: Tensor, loss: Loss) -> float:
    """Logarithm of Σ |weight · gradient| of the output's sum, for an image of ones and the weights' absolute
    values (Tanaka et al. 2020); no image is used."""
    net.double()
    with torch.no_grad():
        for weight in net.parameters():
            weight.abs_()
    gradient = _gradient(net, net(torch.ones_like(images[:1], dtype=torch.float64)).sum())
    return math.log((_weights(net) * gradient).abs().sum() + TINY)


def gradsign(net: nn.Module, images: Tensor, targets: Tensor, loss: Loss) -> float:
    """Logarithm of Σ |Σ_image sign(gradient)| over the weights: do images agree? (Zhang and Jia 2022)."""
    signs = [
        _gradient(net, loss(net(images[i : i + 1]), targets[i : i + 1])).sign()
        for i in range(min(SINGLE_IMAGES, len(images)))
    ]
    return math.log(torch.stack(signs).sum(dim=0).abs().sum() + TINY)


def naswot(net: nn.Module, images: Tensor, targets: Tensor, loss: Loss) -> float:
    """Log-determinant of how often two images switch on the same units (Mellor et al. 2021)."""
    codes: list[Tensor] = []
    hooks = [
        module.register_forward_hook(lambda _, __, output: codes.append((output > 0).flatten(1).double()))
        for module in net.modules()
        if isinstance(module, nn.BatchNorm2d)
    ]
    with torch.no_grad():
        net(images)
    for hook in hooks:
        hook.remove()
    agreement = torch.stack([code @ code.T + (1 - code) @ (1 - code).T for code in codes]).sum(dim=0)
    return float(torch.linalg.slogdet(agreement + 1e-3 * torch.eye(len(agreement))).logabsdet)


PROXIES: dict[str, Proxy] = {
    "batch_loss": batch_loss,
    "grad_norm": grad_norm,
    "snip": snip,
    "synflow": synflow,
    "gradsign": gradsign,
    "naswot": naswot,
}


class ProxyColumns:
    """Proxies of subnets of a supernet, each computed once and remembered.

    Args:
        supernet: trained.
        dataset: only its training images are used, without augmentation.
        task: what the supernet's outputs mean.
        seed: of which images.
    """

    def __init__(self, supernet: Supernet, dataset: Dataset, task: Task, seed: int = 0) -> None:
        self._supernet, self._dataset, self._task, self._seed = supernet, dataset, task, seed
        self._known: dict[tuple[str, str], float] = {}

    def columns(self) -> Mapping[str, Callable[[Genomes], NDArray[np.float64]]]:
        """Extra columns for `predictors.Features`: by name, from genomes (n, n_genes) to values (n,)."""
        return {name: partial(self._column, name) for name in PROXIES}

    def _column(self, name: str, genomes: Genomes) -> NDArray[np.float64]:
        archs = self._supernet.space.decode(genomes)
        return np.array([self._value(name, arch) for arch in archs], dtype=np.float64)

    def _value(self, name: str, arch: Arch) -> float:
        if (name, arch.id) not in self._known:
            self._known[name, arch.id] = self._compute(name, arch)
        return self._known[name, arch.id]

    def _compute(self, name: str, arch: Arch) -> float:
        net = self._supernet.extract(arch, fast=True)
        size = self._supernet.space.image_size(arch)
        strata = self._task.strata(self._dataset.split("train").targets)
        batches = calibration_batches(self._dataset, strata, IMAGES, size, IMAGES, self._seed)
        images, targets = next(iter(batches))
        recalibrate(net, [(images, targets)])
        return PROXIES[name](net, images, targets, self._task.loss)


def _weights(net: nn.Module) -> Tensor:
    return torch.cat([weight.detach().flatten() for weight in net.parameters()])


def _gradient(net: nn.Module, value: Tensor) -> Tensor:
    gradients = torch.autograd.grad(value, list(net.parameters()))
    return torch.cat([gradient.flatten() for gradient in gradients])
