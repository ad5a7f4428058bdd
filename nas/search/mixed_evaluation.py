"""Evaluation of subnets whose blocks have different precisions, in a search.

An evaluation as deployed takes several times longer than one in floating point, and its result differs
little. So all subnets are evaluated in floating point, and only a share of them also as deployed; the change
of the metrics by INT8 is predicted for the others. Evaluations in floating point are shared by all searches
of a run, and by all precisions of a subnet.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from nas.evaluation.deadline import Evaluate
from nas.search.int8_loss import Int8Loss
from nas.search.search_result import SearchResult
from search_spaces import Arch
from search_spaces.precision_space import PrecisionSpace

Metrics = Mapping[str, float]


class MixedEvaluation:
    """Evaluates subnets of a space with the precision as a choice.

    The choice of the subnets that are evaluated as deployed depends only on the order of the requests, so
    that a search that is repeated with stored evaluations gives the same results.

    Args:
        space: the space with the precision as a choice.
        in_float: evaluates subnets of the base space.
        deployed: evaluates subnets of `space` as deployed.
        share: share of the subnets with INT8 that are evaluated as deployed.
    """

    def __init__(self, space: PrecisionSpace, in_float: Evaluate, deployed: Evaluate, share: float) -> None:
        self.space, self._in_float, self._deployed, self._share = space, in_float, deployed, share
        self._predict = Int8Loss(space)
        self._n_int8 = 0
        self._losses: dict[Arch, Metrics] = {}

    def __call__(self, archs: Sequence[Arch], origin: str) -> list[dict[str, float]]:
        """Metrics of each of `archs`, as deployed or with the predicted change by INT8."""
        rows = self._in_float([self.space.base_arch(arch) for arch in archs], origin)
        in_int8 = [i for i, arch in enumerate(archs) if self.space.has_int8(arch)]
        chosen = [i for i in in_int8 if self._is_next_deployed()]
        measured = self._deployed([archs[i] for i in chosen], origin)
        losses = [_difference(found, rows[i]) for i, found in zip(chosen, measured, strict=True)]
        self._predict.add([archs[i] for i in chosen], losses)
        known = dict(zip(chosen, losses, strict=True))
        others = [i for i in in_int8 if i not in known]
        known |= dict(zip(others, self._predict([archs[i] for i in others]), strict=True))
        self._losses |= {archs[i]: loss for i, loss in known.items()}
        return [_sum(row, known.get(i, {})) for i, row in enumerate(rows)]

    def with_other_precisions(self, result: SearchResult) -> SearchResult:
        """The result, to which other precisions of its subnets are added if they improve the front.

        A subnet in another precision has the same metrics in floating point, a predicted change by INT8, and
        costs that are computed, so nothing is evaluated.

        Args:
            result: a search with this evaluation.
        """
        known = set(result.evaluations["arch"])
        bases = list(dict.fromkeys(map(self.space.base_arch, result.evaluations["arch"])))
        in_float = dict(zip(bases, self._in_float(bases, "search"), strict=True))
        others = [(base, arch) for base in bases for arch in self.space.with_one_border(base)]
        others = [(base, arch) for base, arch in others if arch not in known]
        archs = [arch for _, arch in others]
        losses = dict(zip(archs, self._predict(archs), strict=True))
        metrics = {arch: _sum(in_float[base], losses[arch]) for base, arch in others}
        table = result.with_evaluations(archs, list(metrics.values())).evaluations
        better = [arch for arch in table.loc[table["on_front"], "arch"] if arch not in known]
        self._losses |= {arch: losses[arch] for arch in better}
        return result.with_evaluations(better, [metrics[arch] for arch in better])

    def again(self, archs: Sequence[Arch], origin: str, in_float: Evaluate) -> list[dict[str, float]]:
        """Metrics of known subnets by another evaluation in floating point, with the same changes by INT8."""
        rows = in_float([self.space.base_arch(arch) for arch in archs], origin)
        return [_sum(row, self._losses.get(arch, {})) for arch, row in zip(archs, rows, strict=True)]

    def _is_next_deployed(self) -> bool:
        """Whether the next subnet with INT8 is evaluated as deployed: the first one, then evenly spread."""
        before, self._n_int8 = self._n_int8, self._n_int8 + 1
        return math.ceil(self._share * self._n_int8) > math.ceil(self._share * before)


def _difference(a: Metrics, b: Metrics) -> dict[str, float]:
    return {name: value - b[name] for name, value in a.items()}


def _sum(a: Metrics, b: Metrics) -> dict[str, float]:
    return {name: value + b.get(name, 0.0) for name, value in a.items()}
