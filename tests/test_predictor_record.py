"""How good the predictor of a run is, on subnets that it was not fitted to."""

from typing import Any, Self

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, RegressorMixin

from nas.evaluation.trained_run import TrainedRun
from nas.runs.files import PREDICTOR, SEARCH_CSV
from nas.search.predictor_record import PredictorRecord, evaluate_predictor
from predictors import PREDICTORS, Features, tau

Matrix = NDArray[np.float64]


class Spy(RegressorMixin, BaseEstimator):  # type: ignore[misc]  # untyped
    """Remembers which subnets it was last fitted to; predicts the negated sum of their features."""

    fitted: set[bytes]

    def fit(self, X: Matrix, y: Matrix) -> Self:  # noqa: N803
        Spy.fitted = {row.tobytes() for row in X}
        return self

    def predict(self, X: Matrix, return_std: bool = False) -> Any:  # noqa: N803
        guess = -X.sum(axis=1)
        return (guess, guess) if return_std else guess


def test_held_out_subnets_are_random_ones_that_were_not_fitted_to(searched: TrainedRun) -> None:
    space = searched.space
    found = searched.run.search().read_csv(SEARCH_CSV)
    draws = dict.fromkeys(space.decode(space.sample(np.random.default_rng(3), 12)))
    metrics = searched.evaluator()(list(draws), "random")
    random = pd.DataFrame(
        {
            "arch_id": [a.id for a in draws],
            "arch": list(draws),
            "cross_entropy": [m["cross_entropy"] for m in metrics],
        }
    )
    n = len(random) // 2
    record = evaluate_predictor(searched, random, {"spy": lambda features, seed: Spy()}, 0)
    assert record
    held_out = list(draws)[-n:]
    assert [row.arch_id for row in record.held_out] == [arch.id for arch in held_out]
    assert [row.real for row in record.held_out] == [m["cross_entropy"] for m in metrics[-n:]]
    features = Features(space)
    rows = features(space.encode(held_out))
    assert not {row.tobytes() for row in rows} & Spy.fitted
    evaluated = searched.archive.frame("validation", "default:512:seed0")["arch_id"]
    assert {*found["arch_id"], *random["arch_id"]} <= {*evaluated}
    known = {*evaluated} - {arch.id for arch in held_out}
    assert record.n_train == len(known) == len(Spy.fitted)
    assert (record.name, record.n_held_out) == ("spy", n)
    predicted = (-rows.sum(axis=1)).tolist()
    assert [row.predicted for row in record.held_out] == pytest.approx(predicted)
    assert record.kendall_tau == tau(predicted, [row.real for row in record.held_out])
    assert record.kendall_tau_low <= record.kendall_tau <= record.kendall_tau_high


def test_ceiling_is_the_agreement_with_other_calibration_images(searched: TrainedRun) -> None:
    record = searched.run.search().read_model(PREDICTOR, PredictorRecord)
    ids = [row.arch_id for row in record.held_out]
    frame = searched.archive.frame("validation").set_index(["calibration", "arch_id"])["cross_entropy"]
    first, second = (frame["default:512:seed0"][ids], frame["default:512:seed1"][ids])
    assert first.tolist() == [row.real for row in record.held_out]
    assert (first != second).any()
    assert record.ceiling == tau(first, second)


def test_record_of_one_seed_is_always_the_same(searched: TrainedRun) -> None:
    found = searched.run.search().read_csv(SEARCH_CSV)
    one, two = (evaluate_predictor(searched, found, {"ridge": PREDICTORS["ridge"]}, 4) for _ in range(2))
    assert one == two
