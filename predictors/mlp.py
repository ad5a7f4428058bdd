"""A small neural network, fitted in a second."""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from predictors.scaling import scale_of

Matrix = NDArray[np.float64]


class MLP(RegressorMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn is untyped
    """The mean of a few networks with one hidden layer of rectified units, as once-for-all predicts accuracy.

    A few hundred samples fit into memory, so that L-BFGS finds a minimum where stochastic descent takes
    thousands of epochs; weight decay keeps it smooth, and the mean of several starts is better than each of
    them (Lakshminarayanan, Pritzel and Blundell, Deep Ensembles, 2017).

    Args:
        hidden: units of the hidden layer.
        decay: weight of half the squared norm of all weights, beside half the sum of squared errors.
        networks: how many starts.
        iterations: of L-BFGS at most, which stop a network early that would learn the noise.
        random_state: of the starts.
    """

    def __init__(
        self,
        hidden: int = 32,
        decay: float = 3.0,
        networks: int = 3,
        iterations: int = 300,
        random_state: int | None = None,
    ) -> None:
        self.hidden = hidden
        self.decay = decay
        self.networks = networks
        self.iterations = iterations
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:  # noqa: N803
        """Fit to `X` (n, n_features) and `y` (n,).

        Raises:
            ValueError: the shapes do not fit or a number is not finite.
        """
        raw, values = validate_data(self, X, y, dtype=np.float64, y_numeric=True, ensure_min_samples=2)
        self._x_mean, self._x_scale = raw.mean(axis=0), scale_of(raw)
        self._y_mean, self._y_scale = values.mean(), scale_of(values)
        inputs, targets = (raw - self._x_mean) / self._x_scale, (values - self._y_mean) / self._y_scale
        rng = check_random_state(self.random_state)
        self.weights_ = [self._train(inputs, targets, rng) for _ in range(self.networks)]
        return self

    def predict(self, X: ArrayLike) -> Matrix:  # noqa: N803
        """The prediction for each row, shape (n,)."""
        check_is_fitted(self)
        raw = validate_data(self, X, dtype=np.float64, reset=False)
        inputs = (raw - self._x_mean) / self._x_scale
        outputs = [np.maximum(inputs @ first[:-1] + first[-1], 0) @ last for first, last in self.weights_]
        result: Matrix = np.mean(outputs, axis=0) * self._y_scale + self._y_mean
        return result

    def _train(self, inputs: Matrix, targets: Matrix, rng: np.random.RandomState) -> tuple[Matrix, Matrix]:
        """Weights of one network: of the hidden layer with its biases as last row, and of the output."""
        d = inputs.shape[1]
        start = rng.normal(size=(d + 2) * self.hidden) / np.sqrt(d + 1)

        def unpack(theta: Matrix) -> tuple[Matrix, Matrix]:
            weights = theta.reshape(d + 2, self.hidden)
            return weights[:-1], weights[-1]

        def loss(theta: Matrix) -> tuple[float, Matrix]:
            first, last = unpack(theta)
            units = np.maximum(inputs @ first[:-1] + first[-1], 0)
            error = units @ last - targets
            slope = np.outer(error, last) * (units > 0)
            gradient = np.concatenate([inputs.T @ slope, [slope.sum(axis=0)], [error @ units]])
            value = 0.5 * (error @ error + self.decay * theta @ theta)
            return value, gradient.ravel() + self.decay * theta

        found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": self.iterations})
        return unpack(found.x)
