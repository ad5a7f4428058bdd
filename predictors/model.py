"""A fitted predictor of one metric."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from predictors.estimators import PredictorFactory, with_std
from predictors.features import Features
from predictors.one_thread import one_thread
from search_spaces import Genomes, Space
from search_spaces.checked import errors_of, one_per_subnet

Vector = NDArray[np.float64]
CHUNK = 400
"""Number of subnets that are predicted at a time: half a megabyte of features."""


def predictions(predictor: str, values: object, genomes: Genomes, space: Space) -> Vector:
    """Check the predictions of a predictor and convert them to an array of shape (n,).

    Raises:
        ValueError: `values` is not one finite number for each genome.
    """
    return one_per_subnet(f"the predictor {predictor!r}", values, genomes, space)


@dataclass(frozen=True)
class MetricModel:
    """Predicts one metric of subnets from their genomes.

    It is not saved to disk: fitting it again to the evaluations of an archive gives the same model.
    """

    metric: str
    """Name of the metric, such as `cross_entropy`."""
    predictor: str
    """Name of the predictor."""
    features: Features
    estimator: Any
    """The fitted predictor; its `predict` has the parameter `return_std`."""

    @classmethod
    @one_thread
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
            metric: name of the metric.
            predictor: name of the predictor.
            factory: creates the predictor.
            features: features of the space.
            genomes: evaluated subnets, shape (n, n_genes).
            values: the metric of each subnet, shape (n,).
            seed: seed of the predictor.

        Raises:
            ValueError: the predictor fails.
        """
        with errors_of(f"the predictor {predictor!r}"):
            estimator = with_std(factory(features, seed)).fit(features(genomes), values)
        return cls(metric, predictor, features, estimator)

    @one_thread
    def predict(self, genomes: Genomes) -> Vector:
        """Predict the metric of subnets, shape (n,)."""
        with errors_of(f"the predictor {self.predictor!r}"):
            mean = np.concatenate([self.estimator.predict(inputs) for inputs in self._inputs(genomes)])
        return predictions(self.predictor, mean, genomes, self.features.space)

    @one_thread
    def predict_std(self, genomes: Genomes) -> tuple[Vector, Vector]:
        """Predict the metric of subnets and its standard deviation, each of shape (n,)."""
        with errors_of(f"the predictor {self.predictor!r}"):
            pairs = [self.estimator.predict(inputs, return_std=True) for inputs in self._inputs(genomes)]
            mean, std = (np.concatenate(values) for values in zip(*pairs, strict=True))
        space = self.features.space
        return (
            predictions(self.predictor, mean, genomes, space),
            predictions(self.predictor, std, genomes, space),
        )

    def _inputs(self, genomes: Genomes) -> Iterator[NDArray[np.float32]]:
        """Features of `genomes`, in chunks that fit into the cache of the processor."""
        for start in range(0, max(1, len(genomes)), CHUNK):
            yield self.features(genomes[start : start + CHUNK])
