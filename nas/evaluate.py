"""Real evaluations: BN recalibration and a pass over a split, with weights inherited from the supernet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nas.archive import Archive
from nas.data.batches import calibration_batches, eval_batches
from nas.data.dataset import Dataset, SplitName
from nas.metrics import Metric
from nas.progress import Progress, silent
from nas.static import StaticNet
from nas.supernet import Supernet
from search_spaces import Arch

BATCH_SIZE = 256
"""Images of an evaluation batch; results depend on it only through the batches of BN recalibration."""
Batches = Iterable[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Calibration:
    """Which images BN recalibration reads: clean training images, drawn by seed."""

    images: int = 512
    seed: int = 0

    @property
    def key(self) -> str:
        """Name of the calibration in the archive."""
        return f"train:{self.images}:seed{self.seed}"


@torch.no_grad()
def recalibrate(net: nn.Module, batches: Batches) -> None:
    """Give every batch norm the mean and variance that it sees on `batches`, in place.

    Subnets share weights but not statistics, so an inherited subnet is worthless without this (Yu and Huang
    2019, §3.3). The statistics are cumulative means over the batches; every layer normalises with its own
    batch's moments meanwhile.

    Args:
        net: a static network; it is left in eval mode.
        batches: images and labels; only the images are used.
    """
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # torch's spelling of a cumulative mean
    net.train()
    for x, _ in batches:
        net(x)
    net.eval()


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
        calibration: images for BN recalibration.
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
        net = self.supernet.extract(arch)
        recalibrate(net, self._calibration_batches(arch.resolution))
        return net

    def _metrics(self, arch: Arch) -> dict[str, float]:
        batches = eval_batches(self.dataset, self.split, arch.resolution, BATCH_SIZE)
        return measure(self.subnet(arch), batches, self.metrics)

    def _calibration_batches(self, resolution: int) -> Batches:
        images, seed = self.calibration.images, self.calibration.seed
        return calibration_batches(self.dataset, images, resolution, BATCH_SIZE, seed)
