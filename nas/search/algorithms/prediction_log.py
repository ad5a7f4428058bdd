"""Predictions that a search makes for subnets before it evaluates them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nas.search.problem.objectives import Metrics
from predictors import MetricModel
from search_spaces import Arch, Genomes

Vector = NDArray[np.float64]
CROSS_VALIDATION, BEFORE_EVALUATION = "cross-validation", "before evaluation"
"""Kinds of predictions: by cross-validation, and before the subnet was evaluated in a round of the search."""
COLUMNS = ("kind", "round", "arch_id", "metric", "predictor", "n_train", "predicted", "evaluated")


class PredictionLog:
    """Predictions that were made before the evaluation, with the results of the evaluation.

    A round is a batch of subnets that is evaluated. Its metrics are predicted by the models of the latest
    fit, which was made without these subnets. Batches before the first fit have no predictions.
    """

    def __init__(self) -> None:
        self.models: Mapping[str, MetricModel] = {}
        """The models of the latest fit, by metric."""
        self._n_train = 0
        self._rounds: list[pd.DataFrame] = []  # one table for each round and metric

    def set_models(self, models: Mapping[str, MetricModel], n_train: int) -> None:
        """Use these models, fitted to `n_train` evaluations, for the next rounds."""
        self.models, self._n_train = models, n_train

    def predict(self, genomes: Genomes) -> dict[str, Vector]:
        """The predicted metrics of the next round; empty before the first fit."""
        return {metric: model.predict(genomes) for metric, model in self.models.items()}

    def add_round(self, archs: Sequence[Arch], predicted: Metrics, evaluated: Metrics) -> None:
        """Record a round after its evaluation.

        Args:
            archs: the subnets that were evaluated.
            predicted: the result of `predict` for them.
            evaluated: their metrics.
        """
        for metric, values in predicted.items():
            table = {
                "kind": BEFORE_EVALUATION,
                "round": len(self._rounds) // len(predicted) + 1,
                "arch_id": [arch.id for arch in archs],
                "metric": metric,
                "predictor": self.models[metric].predictor,
                "n_train": self._n_train,
                "predicted": values,
                "evaluated": evaluated[metric],
            }
            self._rounds.append(pd.DataFrame(table))

    def frame(self) -> pd.DataFrame:
        """A row for each prediction, with the columns `COLUMNS`."""
        return pd.concat(self._rounds, ignore_index=True) if self._rounds else pd.DataFrame(columns=COLUMNS)
