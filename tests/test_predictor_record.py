"""The quality of the predictor of a search, from predictions by models that were not fitted to the subnet."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import pytest
from conftest import WHOLE_SEARCH
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, RegressorMixin

from nas.evaluation.trained_run import TrainedRun
from nas.runs.files import PREDICTIONS, PREDICTOR, SEARCH_CSV
from nas.search.algorithms import SearchTask
from nas.search.algorithms.history import History
from nas.search.algorithms.prediction_log import BEFORE_EVALUATION, CROSS_VALIDATION
from nas.search.algorithms.surrogate import SurrogateFitter
from nas.search.predictor_record import PredictorRecord
from nas.search.problem.objectives import CostObjective, MetricObjective
from nas.search.problem.problem import Problem
from nas.search.search_loop import search
from predictors import PREDICTORS, tau
from search_spaces import Arch, Space
from search_spaces.costs import macs_table

Matrix = NDArray[np.float64]


class Memory(RegressorMixin, BaseEstimator):  # type: ignore[misc]  # untyped
    """Predicts 1 for subnets that it was fitted to, and 0 for others."""

    def fit(self, X: Matrix, y: Matrix) -> Self:  # noqa: N803
        self.known_ = {row.tobytes() for row in np.asarray(X, dtype=np.float32)}
        return self

    def predict(self, X: Matrix, return_std: bool = False) -> Any:  # noqa: N803
        known = np.array([row.tobytes() in self.known_ for row in np.asarray(X, dtype=np.float32)], float)
        return (known, known) if return_std else known


def losses(archs: Sequence[Arch], origin: str) -> list[dict[str, float]]:
    return [{"cross_entropy": float(int(arch.id, 16) % 1009)} for arch in archs]


def test_no_prediction_is_by_a_model_that_was_fitted_to_the_subnet(tiny: Space) -> None:
    problem = Problem(
        tiny, [MetricObjective("cross_entropy", "cross_entropy"), CostObjective("macs", macs_table(tiny))]
    )
    result = search(
        problem, losses, budget=40, batch=10, seed=0, predictors={"memory": lambda features, seed: Memory()}
    )
    predictions = result.predictions
    assert set(predictions["kind"]) == {CROSS_VALIDATION, BEFORE_EVALUATION}
    assert (predictions["predicted"] == 0).all()
    history = History(problem)
    genomes, values = tiny.encode(result.evaluations["arch"]), result.evaluations["cross_entropy"].to_numpy()
    history.add(genomes, {"cross_entropy": values})
    task = SearchTask(problem, 40, np.random.default_rng(0), {"memory": lambda features, seed: Memory()})
    assert (SurrogateFitter(task)(history).models["cross_entropy"].predict(genomes) == 1).all()
    # the start is a third of the budget, 13 subnets with the corners first; then rounds of 10
    ahead = predictions[predictions["kind"] == BEFORE_EVALUATION]
    done = len(result.evaluations) - len(ahead)
    assert ahead["arch_id"].tolist() == result.evaluations["arch_id"][done:].tolist()
    assert ahead["evaluated"].tolist() == values[done:].tolist()
    rounds = ahead.groupby("round").agg(n_train=("n_train", "first"), n=("n_train", "size"))
    assert rounds.index.tolist() == list(range(1, len(rounds) + 1))
    assert rounds["n_train"].tolist() == (done + rounds["n"].cumsum() - rounds["n"]).tolist()


@pytest.mark.parametrize("algorithm", ["random", "nsga2", "exact"])
def test_search_without_predictor_has_no_predictions(tiny: Space, algorithm: str) -> None:
    problem = Problem(
        tiny, [MetricObjective("cross_entropy", "cross_entropy"), CostObjective("macs", macs_table(tiny))]
    )
    result = search(
        problem, losses, algorithm=algorithm, budget=20, seed=0, predictors={"ridge": PREDICTORS["ridge"]}
    )
    assert result.predictions.empty
    assert not any(str(column).startswith("predicted_") for column in result.evaluations)


def test_record_is_computed_from_the_table_of_predictions(searched: TrainedRun) -> None:
    results = searched.run.search()
    record = results.read_model(PREDICTOR, PredictorRecord)
    table, evaluations = results.read_csv(PREDICTIONS), results.read_csv(SEARCH_CSV)
    validated, ahead = (table[table["kind"] == kind] for kind in (CROSS_VALIDATION, BEFORE_EVALUATION))
    assert (record.name, record.metric) == ("ridge", "cross_entropy")
    assert validated["arch_id"].tolist() == evaluations["arch_id"].tolist()
    assert validated["predicted"].tolist() == evaluations["predicted_cross_entropy"].tolist()
    for found, rows in ((record.cross_validation, validated), (record.before_evaluation, ahead)):
        assert found
        assert found.n == len(rows)
        assert found.kendall_tau == pytest.approx(tau(rows["predicted"], rows["evaluated"]))
        assert found.low <= found.kendall_tau <= found.high
    assert [(r.n_train, r.n) for r in record.rounds] == [
        (rows["n_train"].iloc[0], len(rows)) for _, rows in ahead.groupby("round")
    ]


def test_ceiling_is_the_agreement_with_other_calibration_images(searched: TrainedRun) -> None:
    record = searched.run.search().read_model(PREDICTOR, PredictorRecord)
    assert record.ceiling
    frame = searched.archive.frame("validation").set_index(["calibration", "arch_id"])["cross_entropy"]
    second = frame["default:512:seed1"]
    first = frame["default:512:seed0"][second.index]
    assert set(second.index) <= set(searched.run.search().read_csv(SEARCH_CSV)["arch_id"])
    assert record.ceiling.n == len(second) == WHOLE_SEARCH["noise_ceiling"]
    assert (first != second).any()
    assert record.ceiling.kendall_tau == tau(first, second)
