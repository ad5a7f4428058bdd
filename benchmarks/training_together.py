"""Training of plain torch networks on labels; on a GPU, many small ones at the same time.

A step of a small network consists of hundreds of kernels that take microseconds each. Launching a kernel
takes longer than its work, and each kernel uses a small part of a GPU. Therefore, on a GPU, the whole step of
each network is a CUDA graph, which is one launch, and the graph of each network runs in its own stream.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from nas import tasks
from nas.data.batches import batches_per_epoch, eval_batches, plan_epoch, training_loader
from nas.data.dataset import Dataset, SplitName
from nas.data.normalization import Normalization
from nas.progress import Progress, silent
from nas.recipes.groups import NormClippingConfig, SgdConfig
from nas.recipes.recipe import Recipe
from nas.tasks.metrics import Accumulators
from nas.training.schedule import LearningRate

WARM_UP_STEPS = 3
"""Steps before the capture of a graph, in which libraries select kernels and allocate memory."""
EVALUATION_BATCH = 100
"""Batch size of the evaluation; results do not depend on it."""
GPU_GROUP = 9
"""Number of networks that are trained at the same time on a GPU. An interruption loses at most this many."""
Batches = tuple[Tensor, Tensor]
Job = TypeVar("Job")


@dataclass(frozen=True)
class Member:
    """A network, with the settings of its training."""

    net: nn.Module
    recipe: Recipe
    size: int
    """Side of the images, in pixels."""

    @property
    def images(self) -> tuple[int, int]:
        """Key of the images; networks with equal keys are trained on the same images."""
        return self.recipe.seed, self.size


@dataclass(frozen=True)
class EpochImages:
    """The batches of an epoch on the device, which are replaced in place."""

    pixels: Tensor
    """Shape (batches, images, channels, size, size)."""
    targets: Tensor
    """Shape (batches, images)."""

    def replace(self, batches: Batches) -> None:
        """Copy the batches of the next epoch."""
        self.pixels.copy_(batches[0])
        self.targets.copy_(batches[1])


def in_groups(jobs: Sequence[Job], device: torch.device) -> Iterator[Sequence[Job]]:
    """The jobs that are trained at the same time: several on a GPU, one on the CPU."""
    size = 1 if device.type == "cpu" else GPU_GROUP
    return (jobs[i : i + size] for i in range(0, len(jobs), size))


def train_together(
    members: Sequence[Member], dataset: Dataset, device: torch.device, progress: Progress = silent
) -> list[bool]:
    """Train networks in place; they are on the device afterwards.

    Args:
        members: the networks. Their recipes have SGD and a limit of the gradient's norm, and may differ in
            the learning rate, the weight decay and the seed.
        dataset: source of the images.
        device: a GPU, or the CPU, where the networks take turns.
        progress: called after every epoch.

    Returns:
        Whether the weights of each network are finite; they are not if its training diverged.
    """
    recipe = members[0].recipe
    assert all(m.recipe.epochs == recipe.epochs for m in members)
    assert all(m.recipe.data.batch_size == recipe.data.batch_size for m in members)
    kinds = {member.images: member.recipe for member in members}
    with ThreadPoolExecutor(len(kinds)) as pool:

        def load(epoch: int) -> Mapping[tuple[int, int], Batches]:
            loaded = pool.map(lambda kind: _batches(kinds[kind], dataset, kind[1], epoch), kinds)
            return dict(zip(kinds, loaded, strict=True))

        images = {
            kind: EpochImages(pixels.to(device), targets.to(device))
            for kind, (pixels, targets) in load(0).items()
        }
        steps = [training_step(member, images[member.images], dataset, device) for member in members]
        n_batches = batches_per_epoch(dataset, recipe.data.batch_size)
        for epoch in range(recipe.epochs):
            for _ in range(n_batches):
                for step in steps:
                    step()
            following = load(epoch + 1) if epoch + 1 < recipe.epochs else {}  # while a GPU works
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            for kind, batches in following.items():
                images[kind].replace(batches)
            progress(f"train {len(members)} networks", epoch + 1, recipe.epochs)
    return [all(bool(w.isfinite().all()) for w in member.net.state_dict().values()) for member in members]


def _batches(recipe: Recipe, dataset: Dataset, size: int, epoch: int) -> Batches:
    """The augmented training images of an epoch and their targets, with the axes of `EpochImages`."""
    seed = np.random.default_rng([recipe.seed, epoch]).integers(2**62)
    generator = torch.Generator().manual_seed(int(seed))
    plans = plan_epoch(dataset, [size], recipe.data.batch_size, generator)
    pixels, targets = zip(*training_loader(dataset)(plans), strict=True)
    return torch.stack(pixels), torch.stack(targets)


def training_step(
    member: Member, images: EpochImages, dataset: Dataset, device: torch.device
) -> Callable[[], None]:
    """A function that trains the network for one step, on the next batch of the images."""
    net, recipe = member.net.train().to(device), member.recipe
    config, clipping, task = recipe.optimizer, recipe.clipping, tasks.get(recipe.task)
    assert isinstance(config, SgdConfig)
    assert isinstance(clipping, NormClippingConfig)
    chosen, max_norm = recipe.loss.label_smoothing, clipping.max_norm
    smoothing = (task.label_smoothing if chosen is None else chosen) or 0.0
    schedule = LearningRate(recipe, len(images.pixels))
    rates = torch.tensor([schedule(step) for step in range(schedule.total)], device=device)
    lr, count = torch.zeros((), device=device), torch.zeros(1, dtype=torch.int64, device=device)
    weights = list(net.parameters())
    groups = [
        {"params": [w for w in weights if w.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [w for w in weights if w.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.SGD(groups, lr, momentum=config.momentum, nesterov=True, fused=True)
    normalize = Normalization(dataset.preprocess, device)
    if device.type == "cpu":
        net.to(memory_format=torch.channels_last)

    def step() -> None:
        batch = count % len(images.pixels)
        x = normalize(images.pixels.index_select(0, batch)[0])
        y = images.targets.index_select(0, batch)[0]
        lr.copy_(rates.index_select(0, count)[0])
        optimizer.zero_grad()
        task.loss(net(x), y, smoothing).backward()
        nn.utils.clip_grad_norm_(weights, max_norm)
        optimizer.step()
        count.add_(1)

    if device.type == "cpu":
        return step
    return _CapturedStep(step, optimizer, {**net.state_dict(), "count": count}, device)


class _CapturedStep:
    """A training step as a CUDA graph in its own stream.

    Args:
        step: the step. The step and the optimizer own the memory that the graph uses.
        optimizer: the optimizer of the step.
        state: tensors whose values are restored after the capture.
        device: the GPU.
    """

    def __init__(
        self,
        step: Callable[[], None],
        optimizer: torch.optim.Optimizer,
        state: Mapping[str, Tensor],
        device: torch.device,
    ) -> None:
        self._owners = step, optimizer
        before = {name: tensor.clone() for name, tensor in state.items()}
        self._stream = torch.cuda.Stream(device)
        torch.cuda.synchronize(device)
        with torch.cuda.stream(self._stream):
            for _ in range(WARM_UP_STEPS):
                step()
        torch.cuda.synchronize(device)
        optimizer.zero_grad()
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph, stream=self._stream):
            step()
        torch.cuda.synchronize(device)
        with torch.no_grad():
            for name, tensor in state.items():
                tensor.copy_(before[name])
            for values in optimizer.state.values():
                values["momentum_buffer"].zero_()
        torch.cuda.synchronize(device)

    def __call__(self) -> None:
        with torch.cuda.stream(self._stream):
            self._graph.replay()


@torch.no_grad()
def measure(
    member: Member, dataset: Dataset, split: SplitName, device: torch.device, metrics: Sequence[str]
) -> dict[str, float]:
    """Metrics of a trained network on a split."""
    of_task, net = tasks.get(member.recipe.task).metrics, member.net.eval()
    accumulators = Accumulators({name: of_task[name] for name in metrics}, "the network")
    for images, targets in eval_batches(dataset, split, member.size, EVALUATION_BATCH):
        accumulators.update(net(images.to(device)).cpu(), targets)
    return accumulators.results()
