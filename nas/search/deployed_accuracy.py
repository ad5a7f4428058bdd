"""The metrics of a search in the precision of its device, where that is not fp32.

A search evaluates in fp32, which is fastest in torch. The front is then evaluated in the device's precision.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from nas.evaluation.deployed import Target, deployed_model, float_model, open_onnx, validation_metrics
from nas.evaluation.trained_run import TrainedRun
from nas.onnx_backend.precision import FP32
from nas.progress import Progress, silent
from nas.runs.tables import EVALUATED_AS, accuracy_in
from nas.search.search_result import SearchResult
from nas.tasks.metrics import Metric
from search_spaces import Arch


class DeployedAccuracies:
    """Metrics of subnets as a device computes them, on the validation split, by ONNX Runtime.

    Args:
        trained: the run.
        target: the device's precision.
        metrics: those that a search computes for each subnet, by name.
        progress: called after each subnet.
    """

    def __init__(
        self,
        trained: TrainedRun,
        target: Target,
        metrics: Mapping[str, Metric],
        progress: Progress = silent,
    ) -> None:
        self.trained, self.target, self.metrics, self.progress = trained, target, metrics, progress
        self.known: dict[str, dict[str, float]] = {}

    def missing(self, archs: Sequence[Arch]) -> list[Arch]:
        """Those of `archs` that were not evaluated; none if the precision is fp32."""
        if self.target.precision == FP32:
            return []
        return [arch for arch in dict.fromkeys(archs) if arch.id not in self.known]

    def add(self, archs: Sequence[Arch]) -> None:
        """Evaluate subnets."""
        for i, arch in enumerate(archs):
            model = deployed_model(self.trained, arch, self.target, float_model(self.trained, arch))
            network = open_onnx(model.SerializeToString())
            self.known[arch.id] = validation_metrics(self.trained, arch, network, None, self.metrics)
            self.progress(f"evaluate in {self.target.precision}", i + 1, len(archs))

    def applied_to(self, result: SearchResult) -> SearchResult:
        """The result with these metrics in place of those in fp32, and `EVALUATED_AS` for each row."""
        frame, problem = result.evaluations.copy(), result.problem
        frame[EVALUATED_AS] = accuracy_in(FP32)
        for arch_id, metrics in self.known.items():
            rows = frame["arch_id"] == arch_id
            frame.loc[rows, list(metrics)] = list(metrics.values())
            frame.loc[rows, EVALUATED_AS] = accuracy_in(self.target.precision)
        genomes = problem.space.encode(frame["arch"])
        values = problem.metrics_in(frame)
        for objective in problem.objectives:
            if objective.metrics:
                frame[objective.name] = problem.values(objective, genomes, values)
        return replace(result, evaluations=frame)
