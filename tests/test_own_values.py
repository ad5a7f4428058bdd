"""What a user's own objectives, metrics, predictors and algorithms give is checked where they are called."""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import BaseEstimator, RegressorMixin

import search_spaces
from nas import tasks
from nas.search.problem import objectives
from nas.search.problem.objectives import Context, Objective
from nas.search.problem.problem import Problem, parse_constraint
from nas.search.search_loop import search
from nas.search.search_problem import metric_objectives
from nas.tasks.classification.metrics import METRICS
from nas.tasks.metrics import Accumulators, Metric, SplitMetric
from predictors import Features, MetricModel, cross_validate
from search_spaces import Arch, Space

METRIC_OBJECTIVES = metric_objectives(tasks.get("classification"))
SPACE = search_spaces.get("digits")
GENOMES = np.unique(SPACE.sample(np.random.default_rng(0), 30), axis=0)[:20]

SOURCE = """
import numpy as np
import torch
from nas.search.problem.objectives import CostObjective

class Own:
    unit, maximise, name, metrics = "", False, "own", ()
    def __init__(self, function):
        self.function = function
    def __call__(self, genomes, metrics):
        return self.function(genomes)

def some_nan(genomes):
    values = np.arange(len(genomes), dtype=float)
    values[1] = np.nan
    return values

def fails(genomes):
    raise RuntimeError("device\\noffline")

def as_list(context): return Own(lambda genomes: [float(g.sum()) for g in genomes])
def as_integers(context): return Own(lambda genomes: genomes.sum(axis=1))
def as_tensor(context): return Own(lambda genomes: torch.tensor(genomes).sum(dim=1))
def nan(context): return Own(some_nan)
def infinite(context): return CostObjective("own", lambda genomes: np.full(len(genomes), -np.inf))
def column(context): return Own(lambda genomes: genomes[:, :1])
def scalar(context): return Own(lambda genomes: 3.0)
def short(context): return Own(lambda genomes: genomes[1:, 0])
def words(context): return Own(lambda genomes: ["fast"] * len(genomes))
def nothing(context): return Own(lambda genomes: None)
def ragged(context): return Own(lambda genomes: [[1, 2]] + [3] * (len(genomes) - 1))
def raising(context): return Own(fails)
def undeclared(context):
    own = Own(None)
    own.__class__ = type("Reads", (Own,), {"__call__": lambda self, genomes, metrics: metrics["top1"]})
    return own
def factory(context): raise KeyError("no such device")
def named(context): return CostObjective("latency_ms", lambda genomes: genomes[:, 0])
def column_name(context): return CostObjective("on_front", lambda genomes: genomes[:, 0])
def loose_metrics(context): return CostObjective("own", lambda genomes: genomes[:, 0], metrics="top1")


class Algorithm:
    def __init__(self, task):
        self.space, self.rng = task.problem.space, task.rng
    def ask(self, n):
        return self.space.sample(self.rng, n)
    def tell(self, genomes, metrics):
        pass

def algorithm(**methods):
    return type("Changed", (Algorithm,), methods)

too_many = algorithm(ask=lambda self, n: self.space.sample(self.rng, n + 1))
fractions = algorithm(ask=lambda self, n: self.space.sample(self.rng, n) / 2)
out_of_range = algorithm(ask=lambda self, n: self.space.sample(self.rng, n) + 50)
again = algorithm(ask=lambda self, n: self.space.encode([self.space.smallest]))
archs = algorithm(ask=lambda self, n: self.space.decode(self.space.sample(self.rng, n)))
ask_fails = algorithm(ask=lambda self, n: 1 / 0)
tell_fails = algorithm(tell=lambda self, genomes, metrics: {}["loss"])
no_task = algorithm(__init__=lambda self: None)
def no_ask(task): return 3
"""


@pytest.fixture(autouse=True)
def own_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The current folder holds the user's module."""
    (tmp_path / "own_values.py").write_text(SOURCE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.delitem(sys.modules, "own_values", raising=False)


def objective(name: str) -> Objective:
    return objectives.get(f"own_values:{name}", Context(SPACE, METRIC_OBJECTIVES, {}), allow_import=True)


# ---------------------------------------------------------------------- objectives


@pytest.mark.parametrize("name", ["as_list", "as_integers", "as_tensor"])
def test_numbers_of_any_kind_become_a_vector(name: str) -> None:
    minimised = Problem(SPACE, [objective(name)]).as_minimization(GENOMES, {})
    np.testing.assert_array_equal(minimised, GENOMES.sum(axis=1, keepdims=True))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nan", rf"finite numbers, got nan for the subnet {SPACE.decode(GENOMES)[1].id} \(1 of 20 subnets\)"),
        ("infinite", r"finite numbers, got -inf for the subnet .* \(20 of 20 subnets\)"),
        ("column", r"an array of shape \(20,\), got ndarray of shape \(20, 1\)"),
        ("scalar", r"an array of shape \(20,\), got float of shape \(\)"),
        ("short", r"got ndarray of shape \(19,\)"),
        ("words", r"got list of shape \(20,\) and type <U4"),
        ("nothing", r"got NoneType of shape \(\) and type object"),
        ("ragged", r"one number per subnet; reading its result failed with ValueError: .* inhomogeneous"),
        ("raising", r"failed with RuntimeError: device offline"),
        ("undeclared", r"failed with KeyError: 'top1'"),
        ("factory", r"failed with KeyError: 'no such device'"),
        ("named", r"must have a `name` that no other column has, got 'latency_ms'"),
        ("column_name", r"must have a `name` that no other column has, got 'on_front'"),
        ("loose_metrics", r"must have a tuple of metric names as `metrics`, got 'top1'"),
    ],
)
@pytest.mark.parametrize("limit", [False, True])
def test_wrong_objectives_are_refused_by_name(name: str, message: str, limit: bool) -> None:
    def use() -> None:
        if limit:
            context = Context(SPACE, METRIC_OBJECTIVES, {})
            parsed = parse_constraint(f"own_values:{name}=1", "max", context, allow_import=True)
            Problem(SPACE, [], [parsed]).violations(GENOMES, {})
        else:
            Problem(SPACE, [objective(name)]).as_minimization(GENOMES, {})

    with pytest.raises(ValueError, match=rf"^the objective 'own_values:{name}' .*{message}") as caught:
        use()
    assert "\n" not in str(caught.value)


# ---------------------------------------------------------------------- metrics


LOGITS, LABELS = torch.eye(3), torch.arange(3)


def values(metrics: Mapping[str, Metric], logits: torch.Tensor = LOGITS) -> dict[str, float]:
    accumulators = Accumulators(metrics, "the subnet ab")
    accumulators.update(logits, LABELS)
    return accumulators.results()


def values_of(function: Callable[[], Any]) -> dict[str, float]:
    return values({"own": SplitMetric("own", "min", "", lambda logits, labels: function())})


@pytest.mark.parametrize(
    "value",
    [0.5, np.float32(0.5), torch.tensor(0.5, requires_grad=True), np.array([0.5]), torch.tensor([0.5])],
)
def test_one_number_in_any_form_is_a_metric(value: object) -> None:
    assert values_of(lambda: value) == {"own": 0.5}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (float("nan"), "must return a finite number, got nan for the subnet ab"),
        (torch.tensor(float("inf")), "must return a finite number, got inf for the subnet ab"),
        (torch.zeros(3), r"must return a number, got Tensor of shape \(3,\)"),
        (np.zeros((0,)), r"must return a number, got ndarray of shape \(0,\)"),
        ("0.5", r"must return a number, got str"),
        (None, r"must return a number, got NoneType"),
        (1j, r"must return a number, got complex"),
    ],
)
def test_wrong_metrics_are_refused_by_name(value: object, message: str) -> None:
    with pytest.raises(ValueError, match=f"^the metric 'own' {message}"):
        values_of(lambda: value)


def test_a_metric_that_fails_is_named() -> None:
    with pytest.raises(ValueError, match=r"^the metric 'own' failed with ZeroDivisionError"):
        values_of(lambda: 1 / 0)
    with pytest.raises(ValueError, match=r"'cross_entropy' .* got nan for .*the training diverged"):
        values(METRICS, LOGITS * torch.nan)


# ---------------------------------------------------------------------- predictors


class Own(RegressorMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn is untyped
    """Predicts what a function makes of its inputs."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self.function = function

    def fit(self, X: Any, y: Any) -> "Own":  # noqa: N803
        return self

    def predict(self, X: Any) -> Any:  # noqa: N803
        return self.function(X)


class Sure(Own):
    """Its standard deviation is not a number."""

    def predict(self, X: Any, return_std: bool = False) -> Any:  # noqa: N803
        values = np.zeros(len(X))
        return (values, values * np.nan) if return_std else values


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: np.full(len(x), np.nan), r"finite numbers, got nan for the subnet"),
        (
            lambda x: np.where(np.arange(len(x)) == 1, np.inf, 0),
            r"got inf for the subnet .* \(1 of 4 subnets",
        ),
        (lambda x: np.zeros((len(x), 1)), r"of shape \(4,\), got ndarray of shape \(4, 1\)"),
        (lambda x: 3.0, r"of shape \(4,\), got float of shape \(\)"),
        (lambda x: x["depth"], r"failed with IndexError"),
    ],
)
def test_wrong_predictors_are_refused_by_name(function: Callable[[Any], Any], message: str) -> None:
    values = np.arange(20.0)
    with pytest.raises(ValueError, match=rf"^the predictor 'own:p' .*{message}"):
        cross_validate(Features(SPACE), GENOMES, values, {"own:p": lambda f, s: Own(function)}, seed=0)


def test_wrong_standard_deviations_are_refused() -> None:
    model = MetricModel.fit(
        "loss", "own:p", lambda f, s: Sure(len), Features(SPACE), GENOMES, np.arange(20.0), 0
    )
    assert model.predict(GENOMES).tolist() == [0] * 20
    with pytest.raises(ValueError, match="the predictor 'own:p' must return finite numbers, got nan"):
        model.predict_std(GENOMES)


# ---------------------------------------------------------------------- search algorithms


def evaluate(archs: Sequence[Arch], origin: str) -> list[dict[str, float]]:
    return [{"cross_entropy": 1 / SPACE.macs(arch)} for arch in archs]


def problem(space: Space = SPACE) -> Problem:
    context = Context(space, METRIC_OBJECTIVES, {})
    return Problem(space, [objectives.get(name, context) for name in ("cross_entropy", "macs")])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("too_many", r"integers of shape \(at most 10, \d+\), got ndarray of shape \(11, \d+\)"),
        ("fractions", "and type float64"),
        ("out_of_range", r"must return genes from 0 to \[.*\], got \[5"),
        ("again", f"must not return a subnet twice, got {SPACE.smallest.id} again"),
        ("archs", r"failed with ValueError: .* inhomogeneous shape"),
        ("ask_fails", "failed with ZeroDivisionError: division by zero"),
        ("tell_fails", "failed with KeyError: 'loss'"),
        ("no_task", "failed with TypeError"),
        ("no_ask", "must be Optimizer, but has no ask, tell"),
    ],
)
def test_wrong_algorithms_are_refused_by_name(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=rf"^the search algorithm 'own_values:{name}' .*{message}"):
        search(
            problem(),
            evaluate,
            algorithm=f"own_values:{name}",
            budget=12,
            seed=0,
            predictors={},
            allow_import=True,
        )


def test_a_wrong_objective_ends_a_search_before_anything_is_evaluated() -> None:
    wrong = Problem(SPACE, [objective("nan"), METRIC_OBJECTIVES["cross_entropy"]])
    with pytest.raises(ValueError, match=f"got nan for the subnet {SPACE.largest.id}"):
        search(wrong, lambda archs, origin: pytest.fail("evaluated"), budget=12, seed=0)
