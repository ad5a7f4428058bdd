"""A small neural network, fitted in about a second."""

from __future__ import annotations

from typing import NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from predictors.scaling import scale_of

Matrix = NDArray[np.float64]


class MLP(RegressorMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn is untyped
    """The mean of a few networks with one hidden ReLU layer, similar to the accuracy predictor of OFA.

    With a few hundred samples, L-BFGS on all samples is faster than stochastic gradient descent, which takes
    thousands of epochs. Weight decay regularizes the networks, and the mean of several random initializations
    is better than each of them (Lakshminarayanan, Pritzel and Blundell, Deep Ensembles, 2017).

    Args:
        hidden: number of units of the hidden layer.
        decay: factor of half the squared norm of all weights except biases; it is added to half the sum of
            squared errors. Decay of the biases reduces τ by 0.013 on published ImageNet accuracies.
        networks: number of networks.
        iterations: maximum number of iterations of L-BFGS; stops early to avoid overfitting.
        random_state: seed of the initial weights.
    """

    def __init__(
        self,
        hidden: int = 64,
        decay: float = 3.0,
        networks: int = 2,
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
            ValueError: the shapes do not match or a number is not finite.
        """
        raw, values = validate_data(self, X, y, dtype=np.float64, y_numeric=True, ensure_min_samples=2)
        self._x_mean, self._x_scale = raw.mean(axis=0), scale_of(raw)
        self._y_mean, self._y_scale = values.mean(), scale_of(values)
        inputs, targets = (raw - self._x_mean) / self._x_scale, (values - self._y_mean) / self._y_scale
        rng = check_random_state(self.random_state)
        self.networks_ = [self._train(inputs, targets, rng) for _ in range(self.networks)]
        return self

    def predict(self, X: ArrayLike) -> Matrix:  # noqa: N803
        """Predict the target of each row, shape (n,)."""
        check_is_fitted(self)
        raw = validate_data(self, X, dtype=np.float64, reset=False)
        inputs = (raw - self._x_mean) / self._x_scale
        outputs = [network(inputs) for network in self.networks_]
        result: Matrix = np.mean(outputs, axis=0) * self._y_scale + self._y_mean
        return result

    def _train(self, inputs: Matrix, targets: Matrix, rng: np.random.RandomState) -> _Network:
        d, h = inputs.shape[1], self.hidden
        start = _Network(
            rng.normal(size=(d, h)) / np.sqrt(d), np.zeros(h), rng.normal(size=h) / np.sqrt(h), np.zeros(1)
        )
        decay = self.decay * np.concatenate([np.ones(d * h), np.zeros(h), np.ones(h), np.zeros(1)])

        def loss(theta: Matrix) -> tuple[float, Matrix]:
            network = _Network.unpacked(theta, d, h)
            units = network.units(inputs)
            error = units @ network.output + network.shift - targets
            slope = np.outer(error, network.output) * (units > 0)
            gradient = [(inputs.T @ slope).ravel(), slope.sum(axis=0), error @ units, [error.sum()]]
            value = 0.5 * float(error @ error + (decay * theta) @ theta)
            return value / len(targets), (np.concatenate(gradient) + decay * theta) / len(targets)

        theta = np.concatenate([weights.ravel() for weights in start])
        result = minimize(loss, theta, jac=True, method="L-BFGS-B", options={"maxiter": self.iterations})
        return _Network.unpacked(result.x, d, h)


class _Network(NamedTuple):
    hidden: Matrix
    """Weights of the hidden layer, shape (n_features, n_units)."""
    bias: Matrix
    """Biases of the hidden layer, shape (n_units,)."""
    output: Matrix
    """Weights of the output, shape (n_units,)."""
    shift: Matrix
    """Bias of the output, shape (1,)."""

    @classmethod
    def unpacked(cls, theta: Matrix, d: int, h: int) -> _Network:
        hidden, bias, output, shift = np.split(theta, [d * h, d * h + h, d * h + 2 * h])
        return cls(hidden.reshape(d, h), bias, output, shift)

    def units(self, inputs: Matrix) -> Matrix:
        return np.maximum(inputs @ self.hidden + self.bias, 0.0)

    def __call__(self, inputs: Matrix) -> Matrix:
        result: Matrix = self.units(inputs) @ self.output + self.shift
        return result
