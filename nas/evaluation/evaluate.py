"""Real evaluations: BN recalibration and a pass over a split, with weights inherited from the supernet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nas.data.batches import eval_batches
from nas.data.dataset import Dataset, SplitName
from nas.evaluation.archive import Archive
from nas.evaluation.calibration import Calibration
from nas.evaluation.workers import Threads, Workers
from nas.progress import Progress, silent
from nas.tasks import Task
from nas.tasks.metrics import Accumulators, Metric
from nas.torch_backend.static import StaticNet
from nas.torch_backend.supernet import Supernet
from search_spaces import Arch

BATCH_SIZE = 256
"""Images of an evaluation batch; results do not depend on it."""
Batches = Iterable[tuple[Tensor, Tensor]]


@torch.no_grad()
def measure(
    net: nn.Module, batches: Batches, metrics: Mapping[str, Metric], of: str = "the network"
) -> dict[str, float]:
    """Metrics of a network in eval mode over `batches`; `of` names the network in messages."""
    accumulators = Accumulators(metrics, of)
    for images, targets in batches:
        accumulators.update(net(images), targets)
    return accumulators.results()


@dataclass(frozen=True)
class Measurement:
    """Measures single subnets; it can be pickled and shipped to where workers are."""

    supernet: Supernet
    dataset: Dataset
    task: Task
    metrics: Mapping[str, Metric]
    split: SplitName
    calibration: Calibration

    def __call__(self, arch: Arch) -> dict[str, float]:
        """All metrics of a subnet of the supernet, with one thread of torch."""
        torch.set_num_threads(1)
        size = self.supernet.space.image_size(arch)
        batches = eval_batches(self.dataset, self.split, size, BATCH_SIZE)
        return measure(self.subnet(arch), batches, self.metrics, f"the subnet {arch.id}")

    def subnet(self, arch: Arch) -> StaticNet:
        """The recalibrated static subnet, as it is evaluated and exported."""
        net = self.supernet.extract(arch, fast=True)
        self.calibration(net, self.dataset, self.task, self.supernet.space.image_size(arch))
        return net


@contextmanager
def _torch_threads_restored() -> Iterator[None]:
    """Threads that are started later have as many threads of torch as before."""
    n = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(n)


class Evaluator:
    """Evaluates subnets of a supernet, each one once: results are kept in the archive.

    Args:
        supernet: the trained supernet.
        dataset: its images.
        task: what the supernet's outputs mean.
        archive: where results are kept and looked up.
        metrics: what to compute, by name.
        split: `validation`, or `test` for the final report.
        calibration: how subnets get their batch-norm statistics.
        workers: where subnets are evaluated, several at the same time; results do not depend on it.
        progress: hears about every subnet.
    """

    def __init__(
        self,
        supernet: Supernet,
        dataset: Dataset,
        task: Task,
        archive: Archive,
        metrics: Mapping[str, Metric],
        *,
        split: SplitName = "validation",
        calibration: Calibration | None = None,
        workers: Workers | None = None,
        progress: Progress = silent,
    ) -> None:
        self.measurement = Measurement(supernet, dataset, task, metrics, split, calibration or Calibration())
        self.archive = archive
        self.workers = workers or Threads()
        self.progress = progress

    @property
    def calibration(self) -> Calibration:
        """How subnets get their batch-norm statistics."""
        return self.measurement.calibration

    def __call__(self, archs: Sequence[Arch], origin: str) -> list[dict[str, float]]:
        """Metrics of each of `archs`; a subnet of which the archive knows them all is not run again.

        Args:
            archs: subnets of the supernet's space.
            origin: why they are evaluated, kept in the archive.
        """
        key, split, wanted = self.calibration.key, self.measurement.split, self.measurement.metrics
        found = {arch: self.archive.get(arch, split, key) or {} for arch in archs}
        todo = [arch for arch, metrics in found.items() if wanted.keys() - metrics.keys()]
        with _torch_threads_restored(), closing(self.workers(self.measurement, todo)) as results:
            for done, (i, measured) in enumerate(results, 1):
                found[todo[i]] = self.archive.add(todo[i], split, key, measured, origin)
                self.progress(f"evaluate on {split}", done, len(todo))
        return [{name: found[arch][name] for name in wanted} for arch in archs]

    def subnet(self, arch: Arch) -> StaticNet:
        """The recalibrated static subnet, as it is evaluated and exported."""
        return self.measurement.subnet(arch)
