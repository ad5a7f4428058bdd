"""The metrics of a search in the precision of its device, if this is not fp32.

A search evaluates in fp32, which is fastest in torch. The front is then evaluated in the device's precision.
With mixed precision, the versions of its subnets in one precision are evaluated too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from nas.evaluation.deployed_evaluator import DeployedEvaluator
from nas.evaluation.evaluate import Evaluator
from nas.onnx_backend.precision import FP32, INT8
from nas.runs.tables import EVALUATED_AS, accuracy_in, predicted_in
from nas.search.search_result import SearchResult
from search_spaces import Arch, Space
from search_spaces.precision_space import PrecisionSpace

ORIGIN = "front"


class DeployedAccuracies:
    """Metrics of subnets as a device computes them, on the validation split.

    Args:
        space: the space of the subnets.
        in_float: evaluates subnets of the run's space in fp32.
        deployed: evaluates subnets in the device's precision.
    """

    def __init__(self, space: Space, in_float: Evaluator, deployed: DeployedEvaluator) -> None:
        self._space, self._in_float, self._deployed = space, in_float, deployed
        self.known: dict[Arch, dict[str, float]] = {}

    def missing(self, archs: Sequence[Arch]) -> list[Arch]:
        """The subnets still to be evaluated for the front `archs`; empty for a device in fp32."""
        if self._precision == FP32:
            return []
        wanted = [version for arch in archs for version in (arch, *self._uniform(arch))]
        return [arch for arch in dict.fromkeys(wanted) if arch not in self.known]

    def add(self, archs: Sequence[Arch]) -> None:
        """Evaluate subnets in the precision of the device, subnets without INT8 in fp32."""
        space = self._space
        if isinstance(space, PrecisionSpace):
            floats = [arch for arch in archs if not space.has_int8(arch)]
            metrics = self._in_float([space.base_arch(arch) for arch in floats], ORIGIN)
            self.known |= dict(zip(floats, metrics, strict=True))
        others = [arch for arch in archs if arch not in self.known]
        self.known |= dict(zip(others, self._deployed(others, ORIGIN), strict=True))

    def applied_to(self, result: SearchResult) -> SearchResult:
        """The result with the metrics in the precision of the device, and `EVALUATED_AS` for each row.

        With mixed precision, all known subnets have a row.
        """
        if isinstance(self._space, PrecisionSpace):
            present = set(result.evaluations["arch"])
            new = [arch for arch in self.known if arch not in present]
            result = result.with_evaluations(new, [self.known[arch] for arch in new])
            self._recall(result.evaluations["arch"])
        frame, problem = result.evaluations.copy(), result.problem
        frame[EVALUATED_AS] = [self._evaluated_as(arch) for arch in frame["arch"]]
        for row, arch in frame["arch"].items():
            if arch in self.known:
                frame.loc[row, list(self.known[arch])] = list(self.known[arch].values())
        genomes = problem.space.encode(frame["arch"])
        values = problem.metrics_in(frame)
        for objective in problem.objectives:
            if objective.metrics:
                frame[objective.name] = problem.values(objective, genomes, values)
        return replace(result, evaluations=frame)

    def _recall(self, archs: Iterable[Arch]) -> None:
        """Add the subnets that the search evaluated as deployed."""
        for arch in archs:
            metrics = None if arch in self.known else self._deployed.archived(arch)
            if metrics:
                self.known[arch] = metrics

    @property
    def _precision(self) -> str:
        return self._deployed.target.precision

    def _uniform(self, arch: Arch) -> list[Arch]:
        """The versions of a subnet in one precision, if its precision is a choice."""
        space = self._space
        if not isinstance(space, PrecisionSpace):
            return []
        return [space.uniform(space.base_arch(arch), precision) for precision in (FP32, INT8)]

    def _evaluated_as(self, arch: Arch) -> str:
        if arch in self.known and (not isinstance(self._space, PrecisionSpace) or self._space.has_int8(arch)):
            return accuracy_in(self._precision)
        if isinstance(self._space, PrecisionSpace) and self._space.has_int8(arch):
            return predicted_in(self._precision)
        return accuracy_in(FP32)
