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
        return self.metrics_of(self.subnet(arch), arch)

    def metrics_of(self, net: StaticNet, arch: Arch) -> dict[str, float]:
        """All metrics of a recalibrated subnet."""
        batches = eval_batches(self.dataset, self.split, self.supernet.space.image_size(arch), BATCH_SIZE)
        return measure(net, batches, self.metrics, f"the subnet {arch.id}")

    def subnet(self, arch: Arch) -> StaticNet:
        """The recalibrated static subnet, as it is evaluated and exported."""
        net = self.supernet.extract(arch, fast=True)
        self.calibration(net, self.dataset, self.task, self.supernet.space.image_size(arch))
        return net


@contextmanager
def _torch_threads_restored() -> Iterator[None]:
    """Restore torch's number of threads, which also holds for threads that start later."""
    n = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(n)


class Evaluator:
    """Evaluates subnets of a supernet. Results are stored in the archive, so each subnet is evaluated once.

    Args:
        supernet: the trained supernet.
        dataset: its images.
        task: what the supernet's outputs mean.
        archive: where results are stored and looked up.
        metrics: what to compute, by name.
        split: `validation`, or `test` for the final report.
        calibration: how subnets get their batch-norm statistics.
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
    ) -> None:
        self.measurement = Measurement(supernet, dataset, task, metrics, split, calibration or Calibration())
        self.archive = archive

    @property
    def calibration(self) -> Calibration:
        """How subnets get their batch-norm statistics."""
        return self.measurement.calibration

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """The metrics that are computed, by name."""
        return self.measurement.metrics

    def __call__(
        self,
        archs: Sequence[Arch],
        origin: str,
        *,
        workers: Workers | None = None,
        progress: Progress = silent,
    ) -> list[dict[str, float]]:
        """Metrics of each of `archs`; only those that the archive lacks are computed.

        Args:
            archs: subnets of the supernet's space.
            origin: why they are evaluated, stored in the archive.
            workers: where subnets are evaluated, several at the same time; results do not depend on it. None:
                one thread per core.
            progress: called after each subnet.
        """
        found = {arch: self._known(arch) for arch in archs}
        missing = [arch for arch, metrics in found.items() if self.metrics.keys() - metrics.keys()]
        run = workers or Threads()
        with _torch_threads_restored(), closing(run(self.measurement, missing)) as results:
            for done, (i, measured) in enumerate(results, 1):
                found[missing[i]] = self._store(missing[i], measured, origin)
                progress(f"evaluate on {self.measurement.split}", done, len(missing))
        return [self._selected(found[arch]) for arch in archs]

    def subnet(self, arch: Arch) -> StaticNet:
        """The recalibrated static subnet, as it is evaluated and exported."""
        return self.measurement.subnet(arch)

    def subnet_and_metrics(self, arch: Arch, origin: str) -> tuple[StaticNet, dict[str, float]]:
        """The recalibrated static subnet and its metrics, from the archive or computed with it.

        Args:
            arch: a subnet of the supernet's space.
            origin: why it is evaluated, stored in the archive.
        """
        known = self._known(arch)
        if known.keys() >= self.metrics.keys():
            return self.subnet(arch), self._selected(known)
        with _torch_threads_restored():
            torch.set_num_threads(1)
            net = self.subnet(arch)
            known = self._store(arch, self.measurement.metrics_of(net, arch), origin)
        return net, self._selected(known)

    def _known(self, arch: Arch) -> dict[str, float]:
        return self.archive.get(arch, self.measurement.split, self.calibration.key) or {}

    def _store(self, arch: Arch, measured: Mapping[str, float], origin: str) -> dict[str, float]:
        return self.archive.add(arch, self.measurement.split, self.calibration.key, measured, origin)

    def _selected(self, known: Mapping[str, float]) -> dict[str, float]:
        return {name: known[name] for name in self.metrics}
