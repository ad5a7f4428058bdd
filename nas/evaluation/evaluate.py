"""Evaluation of subnets with inherited weights: BN recalibration and a pass over a split."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from itertools import pairwise

import torch
from torch import Tensor, nn

from hw_profiles.measuring.runner.process_limits import usable_cores
from nas.data.dataset import Dataset, SplitName
from nas.evaluation.archive import Archive
from nas.evaluation.calibration import NO_CALIBRATION, Calibration
from nas.evaluation.group import GroupEvaluation
from nas.evaluation.workers import Threads, Workers
from nas.progress import Progress, silent
from nas.tasks import Task
from nas.tasks.metrics import Accumulators, Metric
from nas.torch_backend.precision import FP32
from nas.torch_backend.static import StaticNet
from nas.torch_backend.supernet import Supernet
from search_spaces import Arch, Space, tensors
from search_spaces.memory import BYTES_PER_NUMBER

GROUP = 25
"""Largest number of subnets that read each image together."""
GROUP_BYTES = 2**29
"""Largest size of the weights of a group in bytes, unless one subnet has more."""
PRECISION_TOLERANCE = 0.01
"""Largest relative change of a metric by a precision other than float32."""
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
        accelerator: as in a recipe: `auto`, `cpu`, `cuda` or `mps`.
        precision: as in a recipe: `32-true`, `bf16-mixed` or `16-mixed`.
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
        accelerator: str = "auto",
        precision: str = FP32,
    ) -> None:
        self.evaluation = GroupEvaluation(
            supernet, dataset, task, metrics, split, calibration or Calibration(), accelerator, precision
        )
        self.archive = archive
        self._unchecked = precision != FP32

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """The metrics that are computed, by name."""
        return self.evaluation.metrics

    @property
    def key(self) -> str:
        """Text that identifies BN recalibration and precision in the archive."""
        own = self.evaluation
        calibration = own.calibration.key if own.supernet.space.has_batch_norm else NO_CALIBRATION
        return calibration + ("" if own.precision == FP32 else f":{own.precision}")

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
            workers: evaluate several groups in parallel; results do not depend on the workers. None: one
                group after the other, with one thread per core.
            progress: called after each subnet.

        Raises:
            ValueError: an image cannot be read, a metric fails, the accelerator is not available, or the
                precision changes the metrics of the first subnet noticeably. Results of earlier evaluations
                remain in the archive.
        """
        run = workers or Threads()
        missing = [arch for arch in archs if self.metrics.keys() - self._archived(arch).keys()]
        if missing and self._unchecked:
            self._check_precision(missing[0], origin, run)
            self._unchecked = False
        return self._evaluate(archs, origin, run, progress)

    def _evaluate(
        self, archs: Sequence[Arch], origin: str, run: Workers, progress: Progress = silent
    ) -> list[dict[str, float]]:
        rows = {arch: self._archived(arch) for arch in archs}
        missing = [arch for arch, metrics in rows.items() if self.metrics.keys() - metrics.keys()]
        groups = make_groups(self.evaluation.supernet.space, missing, run.parallel)
        what, done, errors = f"evaluate on {self.evaluation.split}", 0, list[ValueError]()
        with closing(run(self.evaluation, groups)) as results:
            for group, outcomes in results:
                for arch, outcome in zip(group, outcomes, strict=True):
                    if isinstance(outcome, ValueError):
                        errors.append(outcome)
                    else:
                        rows[arch] = self._store(arch, outcome, origin)
                if errors:
                    raise errors[0]
                for _ in group:
                    done += 1
                    progress(what, done, len(missing))
        return [self._selected(rows[arch]) for arch in archs]

    def subnet(self, arch: Arch) -> StaticNet:
        """The recalibrated static subnet."""
        with self.evaluation.engine(usable_cores()) as engine:
            return self.evaluation.recalibrated([arch], engine)[0]

    def subnet_and_metrics(self, arch: Arch, origin: str) -> tuple[StaticNet, dict[str, float]]:
        """The recalibrated static subnet and its metrics, from the archive or computed with it.

        Args:
            arch: a subnet of the supernet's space.
            origin: purpose of the evaluation, stored in the archive.
        """
        metrics = self._archived(arch)
        if metrics.keys() >= self.metrics.keys():
            return self.subnet(arch), self._selected(metrics)
        with self.evaluation.engine(usable_cores()) as engine:
            nets = self.evaluation.recalibrated([arch], engine)
            (outcome,) = self.evaluation.evaluated([arch], nets, engine)
        if isinstance(outcome, ValueError):
            raise outcome
        return nets[0], self._selected(self._store(arch, outcome, origin))

    def _check_precision(self, arch: Arch, origin: str, workers: Workers) -> None:
        """Compare the metrics of a subnet with its metrics in float32.

        Raises:
            ValueError: the metrics differ too much.
        """
        own = self.evaluation
        exact = Evaluator(
            own.supernet,
            own.dataset,
            own.task,
            self.archive,
            own.metrics,
            split=own.split,
            calibration=own.calibration,
            accelerator=own.accelerator,
        )
        ((expected,), (found,)) = (side._evaluate([arch], origin, workers) for side in (exact, self))
        for quantity in own.task.quantities:
            name = quantity.metric
            allowed = max(quantity.noticeable, PRECISION_TOLERANCE * abs(expected[name]))
            if not abs(found[name] - expected[name]) <= allowed:
                raise ValueError(
                    f"precision {own.precision} must change {name} by at most {allowed:.4g}, got "
                    f"{found[name]:.4g} instead of {expected[name]:.4g} for the subnet {arch.id}; "
                    f"use precision {FP32}"
                )

    def _archived(self, arch: Arch) -> dict[str, float]:
        return self.archive.get(arch, self.evaluation.split, self.key) or {}

    def _store(self, arch: Arch, measured: Mapping[str, float], origin: str) -> dict[str, float]:
        return self.archive.add(arch, self.evaluation.split, self.key, measured, origin)

    def _selected(self, metrics: Mapping[str, float]) -> dict[str, float]:
        return {name: metrics[name] for name in self.metrics}


def make_groups(space: Space, archs: Sequence[Arch], parallel: int = 1) -> list[list[Arch]]:
    """Divide subnets into groups that read each image together.

    Args:
        space: the space.
        archs: the subnets.
        parallel: number of groups that are evaluated at the same time. With one, a group has subnets of
            similar resolution, so that images are resized to few resolutions. With several, the groups take
            similar times.
    """
    ordered = sorted(archs, key=space.image_size)
    weights = BYTES_PER_NUMBER[tensors.FP32] * sum(map(space.params, archs))
    n = max(math.ceil(len(archs) / GROUP), math.ceil(weights / GROUP_BYTES), min(parallel, len(archs)))
    if parallel > 1:
        return [ordered[i::n] for i in range(n)]
    bounds = [len(ordered) * i // n for i in range(n + 1)] if n else []
    return [ordered[start:end] for start, end in pairwise(bounds)]
