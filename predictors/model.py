"""A fitted predictor of one metric."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from predictors.estimators import PredictorFactory, with_std
from predictors.features import Features
from search_spaces import Genomes

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class MetricModel:
    """Predicts one metric of subnets from their genomes.

    It is never written to disk: it is fitted again from the archive's evaluations, with the same result.
    """

    metric: str
    """What is predicted, such as `cross_entropy`."""
    predictor: str
    """Name of the predictor."""
    features: Features
    estimator: Any
    """Fitted; its `predict` takes `return_std`."""

    @classmethod
    def fit(
        cls,
        metric: str,
        predictor: str,
        factory: PredictorFactory,
        features: Features,
        genomes: Genomes,
        values: Vector,
        seed: int,
    ) -> Self:
        """Fit a predictor to evaluated subnets.

        Args:
            metric: what is predicted.
            predictor: its name, for the record.
            factory: makes it.
            features: of the space.
            genomes: the subnets, shape (n, n_genes).
            values: their metric, shape (n,).
            seed: of whatever is random in the predictor.
        """
        estimator = with_std(factory(features, seed))
        return cls(metric, predictor, features, estimator.fit(features(genomes), values))

    def predict(self, genomes: Genomes) -> Vector:
        """The predicted metric, shape (n,)."""
        mean: Vector = self.estimator.predict(self.features(genomes))
        return mean

    def predict_std(self, genomes: Genomes) -> tuple[Vector, Vector]:
        """The predicted metric and its standard deviation, each of shape (n,)."""
        mean, std = self.estimator.predict(self.features(genomes), return_std=True)
        return mean, std
