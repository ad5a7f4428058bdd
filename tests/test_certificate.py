"""What a certificate says about a front, and when there is none."""

import itertools

import numpy as np
import pytest

from nas.search.algorithms import SEARCH_ALGORITHMS, SearchTask
from nas.search.certificate import certify
from nas.search.problem.hypervolume import hypervolume, reference_point
from nas.search.problem.objectives import CostObjective, MetricObjective, Objective
from nas.search.problem.problem import Constraint, Problem
from nas.search.search_loop import search
from predictors import fit_additive, tau
from search_spaces import Arch, Genomes, Space
from search_spaces.costs import macs_table, params_table


def loss(space: Space, genomes: Genomes) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Adds up over slots but for a part that depends on all genes together."""
    canonical = space.canonical(genomes)
    mixed = np.sin(canonical @ np.arange(1, canonical.shape[1] + 1))
    result: np.ndarray[tuple[int], np.dtype[np.float64]] = (
        3 - 0.2 * np.log(macs_table(space)(canonical)) + 0.02 * mixed
    )
    return result


def everything(space: Space) -> Genomes:
    every = np.array(list(itertools.product(*(range(n) for n in space.n_options))), dtype=np.int64)
    return np.unique(space.canonical(every), axis=0)


def problem(space: Space, limits: list[Constraint] | None = None) -> Problem:
    objectives: list[Objective] = [
        MetricObjective("cross_entropy", "cross_entropy"),
        CostObjective("macs", macs_table(space)),
    ]
    return Problem(space, objectives, limits or [])


# ---------------------------------------------------------------------- the additive predictor


def test_additive_fit_orders_unseen_subnets_and_reports_its_error(
    tiny: Space, rng: np.random.Generator
) -> None:
    seen, unseen = tiny.sample(rng, 150), tiny.sample(rng, 200)
    fit = fit_additive(tiny, seen, loss(tiny, seen))
    assert tau(fit.table(unseen), loss(tiny, unseen)) > 0.7
    assert fit.tau == pytest.approx(tau(fit.table(unseen), loss(tiny, unseen)), abs=0.1)
    np.testing.assert_allclose(fit.table.per_slot(unseen).sum(axis=1) + fit.table.offset, fit.table(unseen))


def test_additive_fit_of_what_adds_up_is_exact(tiny: Space, rng: np.random.Generator) -> None:
    """A sum over slots of logarithms of MACs is a sum of its features: only the penalty is between them."""
    genomes = tiny.sample(rng, 300)
    values = np.log1p(macs_table(tiny).per_slot(genomes)).sum(axis=1)
    assert fit_additive(tiny, genomes, values).tau > 0.99


# ---------------------------------------------------------------------- certificates


def test_certificate_compares_with_the_best_that_the_surrogate_has(tiny: Space) -> None:
    known = tiny.sample(np.random.default_rng(0), 100)
    fit = fit_additive(tiny, known, loss(tiny, known))
    every = everything(tiny)
    corners = tiny.encode([tiny.smallest, tiny.largest])
    reference = reference_point(*np.stack([loss(tiny, corners), macs_table(tiny)(corners)], axis=1))
    certificate = certify(problem(tiny), {"cross_entropy": fit}, known[:5], reference)
    assert certificate is not None
    predicted = np.stack([fit.table(every), macs_table(tiny)(every)], axis=1)
    found = np.stack([fit.table(known[:5]), macs_table(tiny)(known[:5])], axis=1)
    assert certificate.hypervolume == pytest.approx(hypervolume(predicted, reference))
    assert certificate.found_hypervolume == pytest.approx(hypervolume(found, reference))
    record = certificate.record()
    assert record["front"] == "exact"
    assert "largest_error" not in record
    assert record["found_share"] == pytest.approx(certificate.found_hypervolume / certificate.hypervolume)
    assert 0 < record["found_share"] < 1


def test_certificate_of_many_objectives_names_its_error(tiny: Space) -> None:
    known = tiny.sample(np.random.default_rng(0), 50)
    fit = fit_additive(tiny, known, loss(tiny, known))
    limit = Constraint(CostObjective("params", params_table(tiny)), "max", float(tiny.params(tiny.largest)))
    certificate = certify(problem(tiny, [limit]), {"cross_entropy": fit}, known, np.array([9.0, 1e9]))
    assert certificate is not None
    record = certificate.record()
    assert record["front"] == "approximate"
    assert set(record["largest_error"]) == {"cross_entropy", "macs"}


def test_no_certificate_where_an_objective_does_not_add_up(tiny: Space) -> None:
    bent = CostObjective("log_macs", lambda genomes: np.log(macs_table(tiny)(genomes)))
    two = Problem(tiny, [MetricObjective("cross_entropy", "cross_entropy"), bent])
    known = tiny.sample(np.random.default_rng(0), 50)
    fit = fit_additive(tiny, known, loss(tiny, known))
    assert certify(two, {"cross_entropy": fit}, known, np.array([9.0, 99.0])) is None
    with pytest.raises(ValueError, match=r"'log_macs' does not: use --algorithm iterative"):
        SEARCH_ALGORITHMS["exact"](SearchTask(two, 50, np.random.default_rng(0)))


# ---------------------------------------------------------------------- the algorithm


def test_exact_search_of_computed_objectives_is_done_at_once(tiny: Space) -> None:
    """Nothing has to be predicted: whatever is asked for is the front itself."""
    costs = Problem(
        tiny, [CostObjective("macs", macs_table(tiny)), CostObjective("negative", Negative(tiny), "")]
    )

    def nothing(archs: list[Arch], origin: str) -> list[dict[str, float]]:
        return [{} for _ in archs]

    result = search(costs, nothing, algorithm="exact", budget=200, seed=0)  # type: ignore[arg-type]
    every = everything(tiny)
    points = np.stack([macs_table(tiny)(every), -params_table(tiny)(every)], axis=1)
    best = [p for p in points if not ((points <= p).all(axis=1) & (points < p).any(axis=1)).any()]
    front = result.front[["macs", "negative"]].to_numpy()
    assert {tuple(row) for row in front} == {tuple(row) for row in best}


class Negative:
    """Minus the parameters."""

    offset = 0.0

    def __init__(self, space: Space) -> None:
        self.table = params_table(space)

    def per_slot(self, genomes: Genomes) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
        return -self.table.per_slot(genomes)

    def __call__(self, genomes: Genomes) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        return -self.table(genomes)
