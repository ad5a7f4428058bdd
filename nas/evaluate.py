"""Real evaluations: BN recalibration and a pass over a split, with weights inherited from the supernet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor, nn

from nas.archive import Archive
from nas.calibration import Calibration
from nas.data.batches import eval_batches
from nas.data.dataset import Dataset, SplitName
from nas.metrics import Metric
from nas.progress import Progress, silent
from nas.static import StaticNet
from nas.supernet import Supernet
from search_spaces import Arch

BATCH_SIZE = 256
"""Images of an evaluation batch; results do not depend on it."""
Batches = Iterable[tuple[Tensor, Tensor]]


@torch.no_grad()
def measure(net: nn.Module, batches: Batches, metrics: Mapping[str, Metric]) -> dict[str, float]:
    """Metrics of a network in eval mode over `batches`."""
    logits, labels = zip(*((net(x), y) for x, y in batches), strict=True)
    outputs = torch.cat(logits), torch.cat(labels)
    return {name: float(metric(*outputs)) for name, metric in metrics.items()}  # a user's may be a tensor


class Evaluator:
    """Evaluates subnets of a supernet, each one once: results are kept in the archive.

    Args:
        supernet: the trained supernet.
        dataset: its images.
        archive: where results are kept and looked up.
        metrics: what to compute, by name.
        split: `validation`, or `test` for the final report.
        calibration: how subnets get their batch-norm statistics.
        workers: subnets evaluated at the same time, one thread each; results do not depend on it.
        progress: hears about every subnet.
    """

    def __init__(
        self,
        supernet: Supernet,
        dataset: Dataset,
        archive: Archive,
        metrics: Mapping[str, Metric],
        *,
        split: SplitName = "validation",
        calibration: Calibration | None = None,
        workers: int = 1,
        progress: Progress = silent,
    ) -> None:
        self.supernet = supernet
        self.dataset = dataset
        self.archive = archive
        self.metrics = metrics
        self.split: SplitName = split
        self.calibration = calibration or Calibration()
        self.workers = workers
        self.progress = progress

    def __call__(self, archs: Sequence[Arch], origin: str) -> list[dict[str, float]]:
        """Metrics of each of `archs`; a subnet of which the archive knows them all is not run again.

        Args:
            archs: subnets of the supernet's space.
            origin: why they are evaluated, kept in the archive.
        """
        key = self.calibration.key
        found = {arch: self.archive.get(arch, self.split, key) or {} for arch in archs}
        todo = [arch for arch, metrics in found.items() if self.metrics.keys() - metrics.keys()]
        with ThreadPoolExecutor(self.workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            try:
                for i, measured in enumerate(pool.map(self._metrics, todo)):
                    found[todo[i]] = self.archive.add(todo[i], self.split, key, measured, origin)
                    self.progress(f"evaluate on {self.split}", i + 1, len(todo))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        return [{name: found[arch][name] for name in self.metrics} for arch in archs]

    def subnet(self, arch: Arch) -> StaticNet:
        """The recalibrated static subnet, as it is evaluated and exported."""
        net = self.supernet.extract(arch, fast=True)
        self.calibration(net, self.dataset, self.supernet.space.image_size(arch))
        return net

    def _metrics(self, arch: Arch) -> dict[str, float]:
        batches = eval_batches(self.dataset, self.split, self.supernet.space.image_size(arch), BATCH_SIZE)
        return measure(self.subnet(arch), batches, self.metrics)
