"""The change of metrics by INT8, predicted from few subnets that were evaluated as deployed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import RidgeCV

from search_spaces import Arch
from search_spaces.precision_space import PrecisionSpace
from search_spaces.tensors import INT8

Matrix = NDArray[np.float64]
PENALTIES = np.logspace(-2, 4, 13)
FEW = 10
"""With fewer samples, the predicted change is proportional to the share of MACs in INT8."""


class Int8Loss:
    """Predicts by how much INT8 changes each metric: a ridge regression, 0 for networks without INT8.

    Its features are the share of all MACs that are in INT8, and for each part of the network (stem, stages,
    head) the share of its blocks. The changes differ less between subnets than the metrics do, so that few
    samples are enough.

    Args:
        space: the space of the subnets.
    """

    def __init__(self, space: PrecisionSpace) -> None:
        self._space = space
        self._parts = {slot.name: slot.part for slot in space.slots}
        self._archs: list[Arch] = []
        self._losses: list[Mapping[str, float]] = []

    def add(self, archs: Sequence[Arch], losses: Sequence[Mapping[str, float]]) -> None:
        """Add samples.

        Args:
            archs: the subnets.
            losses: for each of them, the metrics as deployed minus those in floating point.
        """
        self._archs += archs
        self._losses += losses

    def __call__(self, archs: Sequence[Arch]) -> list[dict[str, float]]:
        """The predicted changes of the metrics of each subnet; empty dicts before any sample was added."""
        if not self._archs or not archs:
            return [{} for _ in archs]
        known, asked = self._features(self._archs), self._features(archs)
        names = list(self._losses[0])
        losses = np.array([[loss[name] for name in names] for loss in self._losses])
        columns = [_fitted(known, losses[:, i], asked) for i in range(len(names))]
        return [dict(zip(names, row, strict=True)) for row in np.stack(columns, axis=1).tolist()]

    def _features(self, archs: Sequence[Arch]) -> Matrix:
        return np.array([self._of(arch) for arch in archs])

    def _of(self, arch: Arch) -> list[float]:
        blocks, precisions = self._space.blocks(arch), self._space.precisions(arch)
        macs = sum(block.macs for block in blocks)
        in_int8 = [block for block in blocks if precisions[block.name] == INT8]
        shares = []
        for part in dict.fromkeys(self._parts.values()):
            own = [block.name for block in blocks if self._parts[block.name] == part]
            shares.append(sum(precisions[name] == INT8 for name in own) / max(1, len(own)))
        return [sum(block.macs for block in in_int8) / macs, *shares]


def _fitted(known: Matrix, losses: NDArray[np.float64], asked: Matrix) -> NDArray[np.float64]:
    """The predictions of one metric for the features `asked`."""
    if len(known) < FEW:
        share = known[:, 0]
        slope = float(share @ losses) / max(float(share @ share), 1e-12)
        return slope * asked[:, 0]
    scale = np.sqrt((known**2).mean(axis=0))
    scale[scale == 0] = np.inf  # features that no sample has get no weight
    ridge = RidgeCV(PENALTIES, fit_intercept=False).fit(known / scale, losses)
    predicted: NDArray[np.float64] = ridge.predict(asked / scale)
    return predicted
