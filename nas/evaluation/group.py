"""Evaluation of groups of subnets that read each image together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from nas.data.batches import split_samples
from nas.data.dataset import Dataset, SplitName
from nas.evaluation.calibration import Calibration, Recalibration
from nas.evaluation.engine import Engine, open_engine
from nas.evaluation.workers import Outcome
from nas.tasks import Task
from nas.tasks.metrics import Accumulators, Metric
from nas.threads import Map
from nas.torch_backend.folded import FoldedNet
from nas.torch_backend.precision import FP32, Computation
from nas.torch_backend.static import StaticNet
from nas.torch_backend.supernet import Supernet
from search_spaces import Arch, Block
from search_spaces.memory import peak_memory_bytes

CHUNK = 256
"""Images of a split that are decoded at a time."""
RECALIBRATION_BYTES = 2**30
"""Largest size in bytes of the activations of all subnets that are recalibrated at the same time. A subnet
that needs more is recalibrated alone, with all threads."""


class _HasNetwork(Protocol):
    @property
    def network(self) -> Block: ...


Sized = TypeVar("Sized", bound=_HasNetwork)


@dataclass(frozen=True)
class GroupEvaluation:
    """Evaluates groups of subnets; it can be pickled and sent to workers.

    A group makes one pass over the images for BN recalibration and one over the split. In each pass, an image
    is decoded once and resized once per resolution.
    """

    supernet: Supernet
    dataset: Dataset
    task: Task
    metrics: Mapping[str, Metric]
    split: SplitName
    calibration: Calibration
    accelerator: str = "auto"
    precision: str = FP32

    def __call__(self, archs: Sequence[Arch], threads: int = 1, worker: int = 0) -> list[Outcome]:
        """All metrics of each subnet, or the error that its metrics raised.

        Args:
            archs: the subnets.
            threads: number of threads.
            worker: index of the process, which determines its GPU.

        Raises:
            ValueError: an image cannot be read, or the accelerator is not available.
        """
        with self.engine(threads, worker) as engine:
            nets = self.recalibrated(archs, engine)
            return self.evaluated(archs, _removed(nets), engine)

    def engine(self, threads: int = 1, worker: int = 0) -> AbstractContextManager[Engine]:
        """The threads and the device, for the arguments of `__call__`."""
        return open_engine(Computation.of(self.accelerator, self.precision, worker), threads)

    def recalibrated(self, archs: Sequence[Arch], engine: Engine) -> list[StaticNet]:
        """The recalibrated static subnets, on the CPU."""
        nets = [self.supernet.extract(arch, fast=True) for arch in archs]
        started = [self.calibration.recalibration(net, engine.computation) for net in nets]
        needed = [recalibration for recalibration in started if recalibration.needed]
        samples = self.calibration.samples(self.dataset, self.task) if needed else []
        by_size = _by_size(needed)
        for _, size, images in engine.shared_images(
            self.dataset, "train", samples, list(by_size), augmented=self.calibration.augmented
        ):
            _add(images, by_size[size], engine)
        for recalibration in started:
            recalibration.finish()
        return nets

    def evaluated(self, archs: Sequence[Arch], nets: Iterable[StaticNet], engine: Engine) -> list[Outcome]:
        """Metrics of recalibrated subnets on the split; each network is read once, before the first image."""
        members = [
            _Member(net, engine, Accumulators(self.metrics, f"the subnet {arch.id}"))
            for arch, net in zip(archs, nets, strict=True)
        ]
        split = self.dataset.split(self.split)
        by_size = _by_size(members)
        for indices, size, images in engine.shared_images(
            self.dataset, self.split, split_samples(split, CHUNK), list(by_size)
        ):
            targets = torch.from_numpy(split.targets[indices])
            parts = [
                (member, images[start : start + member.part], targets[start : start + member.part])
                for member in by_size[size]
                if member.error is None
                for start in range(0, len(images), member.part)
            ]
            for (member, _, labels), outputs in zip(parts, engine.compute(_outputs, parts), strict=True):
                member.update(outputs.float().cpu(), labels)
        return [member.outcome() for member in members]


class _Member:
    """A subnet of a group during the evaluation.

    Args:
        net: the recalibrated subnet.
        engine: the engine that computes the subnet.
        totals: accumulators of its metrics.
    """

    def __init__(self, net: StaticNet, engine: Engine, totals: Accumulators) -> None:
        self._net = FoldedNet(net, engine.computation.device, engine.computation.dtype)
        self._autocast = engine.computation.autocast
        self._totals = totals
        self.network = self._net.network
        self.part = engine.part_size(self._net.network)
        """Number of images that are computed at a time."""
        self.error: ValueError | None = None

    def outputs(self, images: Tensor) -> Tensor:
        """Outputs of the subnet."""
        with self._autocast():
            return self._net(images)

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Add a part of the images, unless there was an error."""
        if self.error is None:
            try:
                self._totals.update(outputs, targets)
            except ValueError as error:
                self.error = error

    def outcome(self) -> Outcome:
        """The metrics, or the error."""
        if self.error is not None:
            return self.error
        try:
            return self._totals.results()
        except ValueError as error:
            return error


def _removed(nets: list[StaticNet]) -> Iterator[StaticNet]:
    """The networks, each of which is removed from the list, so that its memory can be freed."""
    while nets:
        yield nets.pop(0)


def _outputs(part: tuple[_Member, Tensor, Tensor]) -> Tensor:
    member, images, _ = part
    return member.outputs(images)


def _add(images: Tensor, recalibrations: Sequence[Recalibration], engine: Engine) -> None:
    """Add a batch to each recalibration: to several at the same time, or in several threads."""

    def add(recalibration: Recalibration, run: Map = map) -> None:
        parts: Sequence[Tensor] = images.split(engine.part_size(recalibration.network))
        recalibration.add(parts, run)

    def fits(recalibration: Recalibration) -> bool:
        size = len(images) * peak_memory_bytes(recalibration.network) * engine.threads
        return engine.on_cpu and size <= RECALIBRATION_BYTES

    for _ in engine.compute(add, filter(fits, recalibrations)):
        pass
    for recalibration in recalibrations:
        if not fits(recalibration):
            add(recalibration, engine.compute)


def _by_size(items: Iterable[Sized]) -> dict[int, list[Sized]]:
    """The networks by the side of their input images in pixels, in ascending order."""
    by_size: dict[int, list[Sized]] = {}
    for item in sorted(items, key=lambda item: item.network.inputs[0].size[0]):
        by_size.setdefault(item.network.inputs[0].size[0], []).append(item)
    return by_size
