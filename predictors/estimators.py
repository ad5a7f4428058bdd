"""The predictors by name; all are scikit-learn estimators."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, MetaEstimatorMixin, RegressorMixin, clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR
from sklearn.utils.validation import check_is_fitted, validate_data

from predictors.ensemble import Ensemble
from predictors.features import Features
from predictors.gaussian_process import GaussianProcess
from predictors.kernel import Family
from predictors.mlp import MLP
from predictors.ridge import Ridge

Matrix = NDArray[np.float64]


@runtime_checkable
class Regressor(Protocol):
    """A scikit-learn regressor, which `sklearn.base.BaseEstimator` makes of a class with `fit` and `predict`.

    `predict(X, return_std=True)` is used where the estimator has it.
    """

    def fit(self, X: ArrayLike, y: ArrayLike) -> Any:  # noqa: N803
        """Fit to `X` (n, n_features) and `y` (n,)."""

    def predict(self, X: ArrayLike) -> Any:  # noqa: N803
        """The prediction for each row, shape (n,)."""

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The arguments of the constructor, from which an unfitted copy is made."""


PredictorFactory = Callable[[Features, int], Regressor]
"""Makes an unfitted predictor for these features, with this seed for whatever is random in it.

A user's own predictor (`module:object`) is such a function or class.
"""


class ResidualStd(MetaEstimatorMixin, RegressorMixin, BaseEstimator):  # type: ignore[misc]  # untyped
    """Gives a regressor a standard deviation: that of its residuals in cross-validation, one for all inputs.

    Args:
        estimator: the regressor.
        folds: of the cross-validation.
    """

    def __init__(self, estimator: Any, folds: int = 5) -> None:
        self.estimator = estimator
        self.folds = folds

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:  # noqa: N803
        """Fit to `X` (n, n_features) and `y` (n,).

        Raises:
            ValueError: the shapes do not fit or a number is not finite.
        """
        inputs, targets = validate_data(self, X, y, dtype=np.float64, y_numeric=True, ensure_min_samples=2)
        folds = KFold(min(self.folds, len(targets)), shuffle=True, random_state=0)
        residuals = targets - cross_val_predict(clone(self.estimator), inputs, targets, cv=folds)
        self.std_ = float(np.sqrt(np.mean(residuals**2)))
        self.estimator_ = clone(self.estimator).fit(inputs, targets)
        return self

    def predict(
        self,
        X: ArrayLike,  # noqa: N803
        return_std: bool = False,
    ) -> Matrix | tuple[Matrix, Matrix]:
        """The prediction for each row, shape (n,), and with `return_std` its standard deviation."""
        check_is_fitted(self)
        inputs = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        mean: Matrix = self.estimator_.predict(inputs)
        return (mean, np.full(len(mean), self.std_)) if return_std else mean


def with_std(estimator: Regressor) -> Regressor:
    """`estimator` itself if it predicts a standard deviation, otherwise wrapped in `ResidualStd`."""
    able = "return_std" in inspect.signature(estimator.predict).parameters
    return estimator if able else ResidualStd(estimator)


def ridge(features: Features, seed: int) -> Regressor:
    """Linear, with the penalty chosen by leave-one-out; by far the fastest."""
    return Ridge()


def gaussian_process(features: Features, seed: int) -> Regressor:
    """See `GaussianProcess`; its groups and families are those of the features."""
    families = [Family(features.parts)]
    if features.neighbours:
        families.append(Family(features.neighbours, smooth=4.0, signal=0.03))
    return GaussianProcess(tuple(features.groups.values()), families)


def support_vectors(features: Features, seed: int) -> Regressor:
    """Support vector regression with an RBF kernel; errors below its tube do not count."""
    return _standardised(SVR(C=10.0, epsilon=0.02, gamma="scale"))


def gradient_boosting(features: Features, seed: int) -> Regressor:
    """Boosted trees; each of their splits sees a part of the columns."""
    trees = GradientBoostingRegressor(
        n_estimators=100, learning_rate=0.15, max_depth=2, max_features=0.2, random_state=seed
    )
    return _standardised(trees)


def mlp(features: Features, seed: int) -> Regressor:
    """See `MLP`; needs a hundred subnets."""
    return MLP(random_state=seed)


def ensemble(features: Features, seed: int) -> Regressor:
    """See `Ensemble`; best where the metric is noisy and no single predictor is right."""
    return Ensemble([gaussian_process(features, seed), gradient_boosting(features, seed)])


def _standardised(estimator: Any) -> Regressor:
    """`estimator` for features and targets of any scale."""
    model: Regressor = TransformedTargetRegressor(
        make_pipeline(StandardScaler(), estimator), transformer=StandardScaler()
    )
    return model


PREDICTORS: dict[str, PredictorFactory] = {
    factory.__name__: factory
    for factory in (gaussian_process, ridge, gradient_boosting, ensemble, support_vectors, mlp)
}
CANDIDATES: dict[str, PredictorFactory] = {
    factory.__name__: factory for factory in (gaussian_process, ridge, gradient_boosting, ensemble)
}
"""Those that cross-validation chooses from by default; the others have not won on any data so far."""
