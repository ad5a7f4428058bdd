"""Evaluation of subnets as a device computes them, stored in the archive."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nas.data.dataset import SplitName
from nas.evaluation.deployed import Target, deployed_model, float_model, network_metrics, open_onnx
from nas.evaluation.trained_run import TrainedRun
from nas.onnx_backend.precision import INT8
from nas.progress import Progress, silent
from nas.tasks.metrics import Metric
from search_spaces import Arch
from search_spaces.precision_space import PrecisionSpace, float_arch, space_of, with_precision


class DeployedEvaluator:
    """Evaluates subnets in the precision of a device, by ONNX Runtime.

    The archive stores each subnet with the precision of every block, so that a network is evaluated only once
    even if different choices of precision describe it.

    Args:
        trained: the run.
        target: the precision and the processor of the device.
        metrics: the metrics that are computed, by name.
        progress: called after each subnet.
        split: the split on whose images subnets are evaluated.
    """

    def __init__(
        self,
        trained: TrainedRun,
        target: Target,
        metrics: Mapping[str, Metric],
        progress: Progress = silent,
        split: SplitName = "validation",
    ) -> None:
        self._trained, self.target, self.metrics, self._progress = trained, target, metrics, progress
        self._split: SplitName = split

    @property
    def key(self) -> str:
        """Text that identifies BN recalibration and precision in the archive."""
        kind = self.target.instruction_set if self._has_int8 else self.target.precision
        return f"{self._trained.evaluator().key}:deployed-{kind}"

    def __call__(self, archs: Sequence[Arch], origin: str) -> list[dict[str, float]]:
        """Metrics of each of `archs`; only those that are missing in the archive are computed.

        Args:
            archs: subnets of the run's space, with or without the precision of their parts.
            origin: purpose of the evaluation, stored in the archive.
        """
        rows = {arch: self.archived(arch) for arch in archs}
        missing = [arch for arch, metrics in rows.items() if metrics is None]
        for i, arch in enumerate(missing):
            rows[arch] = self._store(arch, self._measured(arch), origin)
            self._progress(f"evaluate in {self.target.precision}", i + 1, len(missing))
        return [dict(rows[arch] or {}) for arch in archs]

    def archived(self, arch: Arch) -> dict[str, float] | None:
        """The metrics of a subnet from the archive; None if one of them is missing."""
        stored = self._trained.archive.get(self._stored_as(arch), self._split, self.key) or {}
        return self._selected(stored) if stored.keys() >= self.metrics.keys() else None

    @property
    def _has_int8(self) -> bool:
        return self.target.precision not in ("fp32", "fp16")

    def _measured(self, arch: Arch) -> dict[str, float]:
        model = deployed_model(self._trained, arch, self.target, float_model(self._trained, arch))
        network = open_onnx(model.SerializeToString(), self.target.instruction_set)
        return network_metrics(self._trained, arch, network, None, self.metrics, self._split)

    def _store(self, arch: Arch, metrics: Mapping[str, float], origin: str) -> dict[str, float]:
        stored = self._trained.archive.add(self._stored_as(arch), self._split, self.key, metrics, origin)
        return self._selected(stored)

    def _stored_as(self, arch: Arch) -> Arch:
        space = space_of(self._trained.space, arch)
        if self.target.precision == INT8:
            space = with_precision(space, "block")
            arch = space.uniform(float_arch(space, arch), INT8)
        return space.by_block(arch) if isinstance(space, PrecisionSpace) and self._has_int8 else arch

    def _selected(self, metrics: Mapping[str, float]) -> dict[str, float]:
        return {name: metrics[name] for name in self.metrics}
