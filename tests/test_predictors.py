import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.dummy import DummyRegressor
from sklearn.linear_model import Ridge as LinearModel
from sklearn.utils.estimator_checks import check_estimator

import search_spaces
from predictors import (
    PREDICTORS,
    Features,
    MetricModel,
    agreement,
    cross_validate,
    fit_best,
    tau,
)
from predictors.ensemble import Ensemble
from predictors.estimators import Regressor, ResidualStd, with_std
from predictors.gaussian_process import GaussianProcess
from predictors.kernel import Family
from predictors.mlp import MLP
from predictors.ridge import PENALTIES, Ridge
from search_spaces import Genomes
from search_spaces.costs import macs_table

SPACE = search_spaces.get("digits")
FEATURES = Features(SPACE)
FAST = PREDICTORS | {"mlp": lambda features, seed: MLP(networks=2, iterations=50, random_state=seed)}
"""Predictors with smaller settings, for tests in which the defaults would take seconds."""
DEAR = ("gaussian_process", "gradient_boosting", "mlp", "ensemble")
NAMES = [pytest.param(name, marks=pytest.mark.slow) if name in DEAR else name for name in PREDICTORS]


def cross_entropy(genomes: Genomes) -> NDArray[np.float64]:
    """An artificial metric that decreases with the size of the network, with a weight for each gene."""
    macs = np.log(macs_table(SPACE)(genomes))
    gain = np.linspace(0.0, 0.2, len(SPACE.genes))
    result: NDArray[np.float64] = np.exp(-0.3 * (macs - macs.mean()) - SPACE.canonical(genomes) @ gain / 4)
    return result


def subnets(n: int, seed: int = 0) -> tuple[Genomes, NDArray[np.float64]]:
    genomes = SPACE.sample(np.random.default_rng(seed), n)
    return genomes, cross_entropy(genomes)


@pytest.mark.parametrize("name", NAMES)
def test_every_predictor_is_a_scikit_learn_estimator(name: str) -> None:
    # the groups of features do not match the inputs of the checks, and the defaults take a minute
    small: dict[str, Regressor] = {
        "gaussian_process": GaussianProcess(),
        "ensemble": Ensemble(),
        "mlp": MLP(hidden=4, networks=1, iterations=30, random_state=0),
    }
    check_estimator(small.get(name) or PREDICTORS[name](FEATURES, 0), on_skip=None)


def test_residual_std_is_a_scikit_learn_estimator() -> None:
    check_estimator(ResidualStd(LinearModel()), on_skip=None)


@pytest.mark.parametrize("name", FAST)
def test_every_predictor_ranks_unseen_subnets_and_is_deterministic(name: str) -> None:
    genomes, values = subnets(80)
    unseen, truth = subnets(200, seed=1)
    models = [
        MetricModel.fit("cross_entropy", name, FAST[name], FEATURES, genomes, values, 3) for _ in range(2)
    ]
    guess, std = models[0].predict_std(unseen)
    assert tau(guess, truth) > 0.7
    assert (std > 0).all()
    np.testing.assert_array_equal(guess, models[0].predict(unseen))
    np.testing.assert_array_equal(guess, models[1].predict(unseen))


@pytest.mark.parametrize("name", NAMES)
def test_standard_deviation_is_calibrated(name: str) -> None:
    unseen, truth = subnets(400, seed=1)
    covered = []
    for seed in (2, 3, 4):
        genomes, values = subnets(60, seed=seed)
        noisy = values + np.random.default_rng(seed).normal(0, 0.02, size=60)
        model = MetricModel.fit("cross_entropy", name, FAST[name], FEATURES, genomes, noisy, 0)
        guess, std = model.predict_std(unseen)
        covered.append(np.mean(np.abs(guess - truth) < 2 * std))
    # a normal error is within two standard deviations in 95 % of all cases
    assert 0.85 < np.mean(covered) <= 1


def test_gaussian_process_recovers_a_noise_free_linear_function() -> None:
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(60, 4))
    weights = np.array([3.0, -2.0, 0.5, 1.0])
    model = GaussianProcess(groups=(slice(0, 2), slice(2, 4))).fit(inputs, inputs @ weights + 7)
    unseen = rng.normal(size=(50, 4))
    error = model.predict(unseen) - (unseen @ weights + 7)
    # the standard deviation of the targets is |weights| = 3.8; noise is at least 0.001 % of their variance
    assert np.abs(error).max() < 0.05


def test_standard_deviation_of_the_gaussian_process_grows_far_from_the_samples() -> None:
    inputs = np.linspace(0, 1, 30)[:, None]
    model = GaussianProcess().fit(inputs, np.sin(6 * inputs[:, 0]))
    prediction = model.predict(np.array([[0.5], [5.0]]), return_std=True)
    near, far = prediction[1]
    assert far > 10 * near


def test_gaussian_process_accepts_duplicates_and_constant_columns() -> None:
    genomes, values = subnets(40)
    inputs = np.repeat(np.c_[FEATURES(genomes), np.full(40, 3.0)], 2, axis=0)
    prediction = GaussianProcess().fit(inputs, np.repeat(values, 2)).predict(inputs)
    assert tau(prediction, np.repeat(values, 2)) > 0.9


def test_gaussian_process_uses_all_of_many_samples() -> None:
    genomes, values = subnets(300)
    unseen, truth = subnets(300, seed=1)
    errors = [
        np.abs(
            GaussianProcess(max_kernel_samples=60)
            .fit(FEATURES(genomes[:n]), values[:n])
            .predict(FEATURES(unseen))
            - truth
        ).mean()
        for n in (60, 300)
    ]
    assert errors[1] < errors[0]


def test_parts_need_fewer_samples_for_a_sum_of_functions() -> None:
    rng = np.random.default_rng(0)
    inputs, unseen = rng.uniform(-2, 2, size=(2, 120, 5))
    values, truth = (np.sin(3 * points).sum(axis=1) for points in (inputs, unseen))
    errors = [
        np.abs(GaussianProcess(families=families).fit(inputs, values).predict(unseen) - truth)
        for families in (None, [Family([[column] for column in range(5)])])
    ]
    # a single kernel has 120 points in five dimensions, each part has 120 points in one dimension
    assert errors[1].mean() < 0.5 * errors[0].mean()


def test_ridge_selects_the_penalty_with_the_lowest_leave_one_out_error() -> None:
    rng = np.random.default_rng(0)
    inputs = np.c_[rng.normal(size=(12, 4)) * [1, 10, 0.1, 3], np.full(12, 7.0)]
    values = inputs[:, 0] + rng.normal(size=12)
    scaled = (inputs - inputs.mean(axis=0))[:, :4] / inputs.std(axis=0)[:4]

    def solved(penalty: float, rows: list[int]) -> NDArray[np.float64]:
        """Predictions for all samples by normal equations of some; the last weight is the intercept."""
        design = np.c_[scaled, np.ones(12)]
        normal = design[rows].T @ design[rows] + np.diag([penalty] * 4 + [0])
        result: NDArray[np.float64] = design @ np.linalg.solve(normal, design[rows].T @ values[rows])
        return result

    def left_out_error(penalty: float) -> float:
        others = [[j for j in range(12) if j != i] for i in range(12)]
        return float(sum((solved(penalty, rows)[i] - values[i]) ** 2 for i, rows in enumerate(others)))

    model = Ridge().fit(inputs, values)
    assert model.penalty_ == min(PENALTIES, key=left_out_error)
    np.testing.assert_allclose(model.predict(inputs), solved(model.penalty_, list(range(12))))


def test_ensemble_has_the_largest_weight_for_the_best_member() -> None:
    genomes, values = subnets(80)
    members = [DummyRegressor(), LinearModel(), DummyRegressor(strategy="constant", constant=100.0)]
    model = Ensemble(members).fit(FEATURES(genomes), values)
    assert model.weights_.sum() == pytest.approx(1)
    assert model.weights_[1] > 0.9


@pytest.mark.slow
def test_standard_deviation_of_the_ensemble_is_calibrated() -> None:
    noise = np.random.default_rng(5)
    within: dict[int, list[float]] = {1: [], 2: []}
    for seed in range(4):
        genomes, values = subnets(120, seed=2 * seed)
        unseen, truth = subnets(300, seed=2 * seed + 1)
        measured, target = values + noise.normal(0, 0.1, 120), truth + noise.normal(0, 0.1, 300)
        mean, std = Ensemble().fit(FEATURES(genomes), measured).predict(FEATURES(unseen), return_std=True)
        for deviations, shares in within.items():
            shares.append(float(np.mean(np.abs(mean - target) < deviations * std)))
    # 68 % and 95 % of a normal distribution are within one and two standard deviations
    assert 0.60 < np.mean(within[1]) < 0.76
    assert 0.90 < np.mean(within[2]) < 0.99


def test_user_estimator_without_standard_deviation_gets_one() -> None:
    wrapped = with_std(LinearModel())
    assert isinstance(wrapped, ResidualStd)
    gaussian_process = GaussianProcess()
    assert with_std(gaussian_process) is gaussian_process
    genomes, values = subnets(60)
    model = MetricModel.fit(
        "top1", "mine", lambda features, seed: LinearModel(), FEATURES, genomes, values, 0
    )
    assert (model.predict_std(genomes)[1] > 0).all()


def test_residual_std_is_the_error_of_cross_validation() -> None:
    values = np.arange(10.0)
    model = ResidualStd(DummyRegressor(strategy="constant", constant=0.0)).fit(np.zeros((10, 1)), values)
    # the residual of a constant 0 is the value itself: sqrt(mean(0, 1, 4, ..., 81)) = sqrt(28.5)
    assert model.std_ == pytest.approx(np.sqrt(28.5))


def test_best_predictor_is_selected_by_cross_validation() -> None:
    def useless(features: Features, seed: int) -> Regressor:
        return DummyRegressor()  # type: ignore[no-any-return]

    genomes, values = subnets(60)
    model, table = fit_best(
        "cross_entropy",
        FEATURES,
        genomes,
        values,
        {"useless": useless, "ridge": PREDICTORS["ridge"]},
        seed=0,
    )
    assert model.predictor == "ridge"
    assert [entry.predictor for entry in table] == ["ridge", "useless"]
    assert table[1].tau == 0  # τ of a constant
    assert table[0].rmse < table[1].rmse
    assert cross_validate(FEATURES, genomes, values, {"ridge": PREDICTORS["ridge"]}, seed=0) == table[:1]


def test_too_few_evaluations_are_an_error() -> None:
    genomes, values = subnets(9)
    with pytest.raises(ValueError, match="needs >= 10 evaluated subnets, got 9"):
        fit_best("cross_entropy", FEATURES, genomes, values, seed=0)


def test_agreement_of_orders() -> None:
    rng = np.random.default_rng(0)
    same = agreement(range(20), range(20), rng)
    assert (same.tau, same.low, same.high) == pytest.approx((1, 1, 1))
    assert agreement(range(20), range(20, 0, -1), rng).tau == pytest.approx(-1)
    # one of six pairs is discordant: (5 - 1) / 6
    assert tau([1, 2, 3, 4], [1, 2, 4, 3]) == pytest.approx(4 / 6)
    noisy = agreement(np.arange(60.0), np.arange(60.0) + rng.normal(0, 15, 60), rng)
    assert noisy.low < noisy.tau < noisy.high < 1


def test_bootstrap_is_that_of_the_resampled_values(rng: np.random.Generator) -> None:
    x = rng.integers(0, 6, 30).astype(np.float64)  # with ties
    y = x + rng.integers(0, 4, 30)
    draws = np.random.default_rng(3).integers(0, 30, size=(200, 30))
    low, high = np.quantile([tau(x[rows], y[rows]) for rows in draws], [0.025, 0.975])
    found = agreement(x, y, np.random.default_rng(3), resamples=200)
    assert (found.low, found.high) == pytest.approx((low, high))
    assert agreement(x, np.zeros(30), rng, resamples=20).high == 0  # one sequence is constant


@pytest.mark.parametrize(("a", "b"), [([1.0, 2.0], [1.0, 2.0]), ([1.0, 2.0, 3.0], [1.0, 2.0])])
def test_agreement_needs_two_equal_lengths(a: list[float], b: list[float]) -> None:
    with pytest.raises(ValueError, match=">= 3 values"):
        agreement(a, b, np.random.default_rng(0))
