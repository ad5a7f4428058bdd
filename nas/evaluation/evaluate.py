"""Evaluation of subnets with inherited weights: BN recalibration and a pass over a split."""

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
"""Batch size for evaluation; results do not depend on it."""
Batches = Iterable[tuple[Tensor, Tensor]]


@torch.no_grad()
def measure(
    net: nn.Module, batches: Batches, metrics: Mapping[str, Metric], of: str = "the network"
) -> dict[str, float]:
    """Metrics of a network in eval mode over `batches`; messages refer to the network as `of`."""
    accumulators = Accumulators(metrics, of)
    for images, targets in batches:
        accumulators.update(net(images), targets)
    return accumulators.results()


@dataclass(frozen=True)
class Measurement:
    """Evaluates single subnets; it can be pickled and sent to workers."""

    supernet: Supernet
    dataset: Dataset
    task: Task
    metrics: Mapping[str, Metric]
    split: SplitName
    calibration: Calibration

    def __call__(self, arch: Arch) -> dict[str, float]:
        """All metrics of a subnet, computed with one torch thread."""
        torch.set_num_threads(1)
        return self.metrics_of(self.subnet(arch), arch)

    def metrics_of(self, net: StaticNet, arch: Arch) -> dict[str, float]:
        """All metrics of a recalibrated subnet."""
        batches = eval_batches(self.dataset, self.split, self.supernet.space.image_size(arch), BATCH_SIZE)
        return measure(net, batches, self.metrics, f"the subnet {arch.id}")

    def subnet(self, arch: Arch) -> StaticNet:
        """The recalibrated static subnet."""
        net = self.supernet.extract(arch, fast=True)
        self.calibration(net, self.dataset, self.task, self.supernet.space.image_size(arch))
        return net


@contextmanager
def _torch_threads_restored() -> Iterator[None]:
    """Restore torch's number of threads, a setting that threads started later inherit."""
    n = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(n)


class Evaluator:
    """Evaluates subnets of a supernet. Results are stored in the archive, so each subnet is evaluated once.

    Args:
        supernet: the trained supernet.
        dataset: the data set.
        task: the task.
        archive: stores the results.
        metrics: the metrics by name.
        split: `validation`, or `test` for the final report.
        calibration: BN recalibration; None: the default.
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
        """The BN recalibration."""
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
        """Metrics of each of `archs`; only those that are missing in the archive are computed.

        Args:
            archs: subnets of the supernet's space.
            origin: purpose of the evaluation, stored in the archive.
            workers: evaluate several subnets in parallel; results do not depend on them. None: one thread per
                core.
            progress: called after each subnet.
        """
        rows = {arch: self._archived(arch) for arch in archs}
        missing = [arch for arch, metrics in rows.items() if self.metrics.keys() - metrics.keys()]
        run = workers or Threads()
        with _torch_threads_restored(), closing(run(self.measurement, missing)) as results:
            for done, (i, measured) in enumerate(results, 1):
                rows[missing[i]] = self._store(missing[i], measured, origin)
                progress(f"evaluate on {self.measurement.split}", done, len(missing))
        return [self._selected(rows[arch]) for arch in archs]

    def subnet(self, arch: Arch) -> StaticNet:
        """The recalibrated static subnet."""
        return self.measurement.subnet(arch)

    def subnet_and_metrics(self, arch: Arch, origin: str) -> tuple[StaticNet, dict[str, float]]:
        """The recalibrated static subnet and its metrics, from the archive or computed with it.

        Args:
            arch: a subnet of the supernet's space.
            origin: purpose of the evaluation, stored in the archive.
        """
        metrics = self._archived(arch)
        if metrics.keys() >= self.metrics.keys():
            return self.subnet(arch), self._selected(metrics)
        with _torch_threads_restored():
            torch.set_num_threads(1)
            net = self.subnet(arch)
            metrics = self._store(arch, self.measurement.metrics_of(net, arch), origin)
        return net, self._selected(metrics)

    def _archived(self, arch: Arch) -> dict[str, float]:
        return self.archive.get(arch, self.measurement.split, self.calibration.key) or {}

    def _store(self, arch: Arch, measured: Mapping[str, float], origin: str) -> dict[str, float]:
        return self.archive.add(arch, self.measurement.split, self.calibration.key, measured, origin)

    def _selected(self, metrics: Mapping[str, float]) -> dict[str, float]:
        return {name: metrics[name] for name in self.metrics}
