import itertools
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

import search_spaces
from nas.evaluation.archive import Archive
from nas.search.algorithms import (
    SEARCH_ALGORITHMS,
    Optimizer,
    SearchTask,
    iterative,
    linas,
    one_shot_predictor,
)
from nas.search.algorithms.coarse_to_fine import skeletons
from nas.search.algorithms.evolution import Evolved, evolve, reference_directions
from nas.search.algorithms.history import History
from nas.search.algorithms.local_search import improve, neighbours
from nas.search.algorithms.ranking import crowded_order
from nas.search.algorithms.regularized import RegularizedEvolution
from nas.search.problem.hypervolume import greedy_batch, hypervolume, nondominated, reference_point
from nas.search.problem.objectives import CostObjective, MetricObjective, Objective
from nas.search.problem.problem import Constraint, Problem
from nas.search.search_loop import search
from predictors import PREDICTORS
from search_spaces import Arch, Genomes, Space
from search_spaces.costs import macs_table, params_table

SPACE = search_spaces.get("digits")
TINY = search_spaces.parse(
    """
name: tiny
outputs: 10
channels: 1
resolutions: [8]
stem: {width: [8]}
stages: [{width: [8, 16], depth: [1, 2], kernel: [3, 5], expand: [1, 2]}]
head: {width: [16]}
"""
)
RIDGE = {"ridge": PREDICTORS["ridge"]}


def cross_entropy(space: Space, genomes: Genomes) -> NDArray[np.float64]:
    """Large networks are better, but every gene has a taste of its own that costs do not know."""
    canonical = space.canonical(genomes)
    taste = np.sin(3 * canonical + np.arange(len(space.genes))).sum(axis=1) / max(1, len(space.genes))
    result: NDArray[np.float64] = np.exp(-0.4 * np.log(macs_table(space)(canonical) / 1e6) - 0.5 * taste)
    return result


def problem(space: Space = SPACE, limits: Sequence[tuple[str, float]] = ()) -> Problem:
    loss, macs = MetricObjective("cross_entropy", "cross_entropy"), CostObjective("macs", macs_table(space))
    known: dict[str, Objective] = {"cross_entropy": loss, "macs": macs}
    return Problem(space, [loss, macs], [Constraint(known[name], "max", bound) for name, bound in limits])


@pytest.fixture(autouse=True)
def short_inner_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of the effort is enough for so small a space."""
    monkeypatch.setattr(iterative, "INNER_EVALUATIONS", 1_000)
    monkeypatch.setattr(linas, "INNER_EVALUATIONS", 1_000)
    monkeypatch.setattr(one_shot_predictor, "INNER_EVALUATIONS", 2_000)


class Evaluation:
    """Measures with the formula above and counts what it measured."""

    def __init__(self, space: Space = SPACE) -> None:
        self.space = space
        self.archs: list[Arch] = []
        self.origins: list[str] = []

    def __call__(self, archs: Sequence[Arch], origin: str) -> list[dict[str, float]]:
        self.archs += archs
        self.origins += [origin] * len(archs)
        losses = cross_entropy(self.space, self.space.encode(archs)).tolist()
        return [{"cross_entropy": loss, "top1": float(np.exp(-loss))} for loss in losses]


# ---------------------------------------------------------------------- hypervolume


def test_hypervolume_of_a_staircase() -> None:
    points = np.array([[1.0, 3.0], [2.0, 1.0], [2.5, 2.0], [9.0, 0.0]])
    # inside (4, 4): 3 x 1 over the first point, 2 x 3 over the second, 2 x 1 counted twice; the third is
    # dominated and the fourth outside
    assert hypervolume(points, np.array([4.0, 4.0])) == pytest.approx(3 + 6 - 2)
    assert hypervolume(points[3:], np.array([4.0, 4.0])) == 0


def test_nondominated_is_what_no_other_point_beats() -> None:
    rng = np.random.default_rng(0)
    points = rng.integers(0, 6, size=(60, 3)).astype(float)
    kept = nondominated(points)
    for i, point in enumerate(points):
        beaten = ((points <= point).all(axis=1) & (points < point).any(axis=1)).any()
        repeated = (points[:i] == point).all(axis=1).any()
        assert (i in kept) == (not beaten and not repeated)
    assert len(nondominated(points[:0])) == 0


def test_reference_point_is_beyond_the_worse_corner_in_both_directions() -> None:
    # minimised: loss 2.0 and 0.5, latency 1 and 4 ms; maximised accuracies 0.8 and 0.95 are negative
    np.testing.assert_allclose(
        reference_point(np.array([2.0, 1.0, -0.8]), np.array([0.5, 4.0, -0.95])),
        [2.0 * 1.05, 4.0 * 1.05, -0.8 / 1.05],
    )


def test_greedy_batch_takes_the_best_next_point_each_time() -> None:
    rng = np.random.default_rng(1)
    front, candidates = rng.random((4, 2)), rng.random((30, 2))
    reference = np.array([1.0, 1.0])
    chosen = greedy_batch(front, candidates, reference, 5)
    points = front
    for index in chosen:
        volumes = [hypervolume(np.vstack([points, c]), reference) for c in candidates]
        assert volumes[index] == pytest.approx(max(volumes))
        points = np.vstack([points, candidates[index]])
    assert greedy_batch(front, front, reference, 5) == []  # nothing that is there already


# ---------------------------------------------------------------------- NSGA-II


def test_evolution_finds_the_exact_front_of_a_tiny_space() -> None:
    every = np.array(list(itertools.product(*(range(n) for n in TINY.n_options))))
    truth = nondominated(score(every)[0])
    found = evolve(TINY, score, every[:3], np.random.default_rng(0), 400, population=20)
    assert {tuple(row) for row in found.minimised} == {tuple(row) for row in score(every)[0][truth]}
    np.testing.assert_array_equal(found.genomes, TINY.canonical(found.genomes))
    assert found.violation == 0


def score(genomes: Genomes) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    minimised = np.c_[cross_entropy(TINY, genomes), macs_table(TINY)(genomes)]
    return minimised, np.zeros((len(genomes), 0))


def test_evolution_returns_the_closest_subnet_where_limits_are_impossible() -> None:
    def impossible(genomes: Genomes) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        params = params_table(TINY)(genomes)
        return np.c_[params, -params], (params / 1.0 - 1)[:, None]

    found = evolve(TINY, impossible, np.zeros((0, len(TINY.genes)), int), np.random.default_rng(0), 500)
    assert TINY.decode(found.genomes) == [TINY.smallest]
    assert found.violation == TINY.params(TINY.smallest) - 1


# ---------------------------------------------------------------------- search algorithms


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(n, marks=pytest.mark.slow) if n in ("exact", "iterative") else n
        for n in SEARCH_ALGORITHMS
    ],
)
def test_no_algorithm_asks_for_an_evaluated_arch(name: str) -> None:
    optimizer = SEARCH_ALGORITHMS[name](SearchTask(problem(), 90, np.random.default_rng(0), RIDGE))
    assert isinstance(optimizer, Optimizer)
    evaluated = SPACE.encode([SPACE.smallest, SPACE.largest])
    asked = evaluated
    while len(evaluated) < 90:
        optimizer.tell(asked, {"cross_entropy": cross_entropy(SPACE, asked)})
        asked = optimizer.ask(22)
        assert 0 < len(asked) <= 22
        np.testing.assert_array_equal(asked, SPACE.canonical(asked))
        evaluated = np.concatenate([evaluated, asked])
        assert len(np.unique(evaluated, axis=0)) == len(evaluated)


@pytest.mark.parametrize("name", SEARCH_ALGORITHMS)
def test_algorithms_end_where_the_space_does(name: str) -> None:
    result = search(problem(TINY), Evaluation(TINY), algorithm=name, budget=500, seed=0, predictors=RIDGE)
    assert result.evaluations["arch_id"].is_unique
    assert len(result.evaluations) <= TINY.n_subnets


@pytest.mark.parametrize("name", ["iterative", "random", "exact"])
@pytest.mark.parametrize(
    ("widths", "resolutions", "n"), [([8], [8], 1), ([8, 16], [8], 2), ([8, 16, 24], [8, 12, 16], 9)]
)
def test_small_spaces_are_evaluated_completely(
    name: str, widths: list[int], resolutions: list[int], n: int
) -> None:
    space = small_space(widths, resolutions)
    assert space.n_subnets == n
    evaluation = Evaluation(space)
    result = search(problem(space), evaluation, algorithm=name, budget=200, seed=0, predictors=RIDGE)
    assert len(set(evaluation.archs)) == len(evaluation.archs) == n
    assert evaluation.archs[0] == space.smallest
    assert evaluation.archs[-1 if n == 1 else 1] == space.largest
    measured = result.evaluations[["cross_entropy", "macs"]].to_numpy()
    assert set(result.front["arch_id"]) == set(result.evaluations["arch_id"][nondominated(measured)])
    assert result.hypervolume > 0
    assert result.cross_validation == {}  # nothing was predicted
    json.dumps(result.record(), allow_nan=False)
    with pytest.raises(ValueError, match=f"budget must be >= {n} real evaluations, got 0"):
        search(problem(space), evaluation, algorithm=name, budget=0, seed=0)


@pytest.mark.slow
def test_space_of_64_subnets_is_searched_and_one_of_63_evaluated() -> None:
    sizes = [8, 12, 16, 20, 24, 28, 32, 36, 40]
    for space, n in ((small_space(sizes[:7], sizes), 63), (small_space(sizes[:8], sizes[:8]), 64)):
        result = search(problem(space), Evaluation(space), algorithm="exact", budget=200, seed=0)
        assert (len(result.evaluations) == space.n_subnets) == (n == 63)
        assert result.cross_validation == {}


def small_space(widths: list[int], resolutions: list[int]) -> Space:
    return search_spaces.parse(
        f"""
name: small
outputs: 10
channels: 1
resolutions: {resolutions}
divisor: 4
stem: {{width: [8]}}
stages: [{{width: {widths}, depth: [1], kernel: [3], expand: [1]}}]
head: {{width: [16]}}
"""
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["iterative", "predictor"])
def test_a_search_with_a_predictor_beats_random_search(name: str) -> None:
    volumes = {}
    for algorithm in (name, "random"):
        runs = [
            search(
                problem(), Evaluation(), algorithm=algorithm, budget=120, batch=30, seed=s, predictors=RIDGE
            )
            for s in (0, 1)
        ]
        volumes[algorithm] = np.mean([run.hypervolume for run in runs])
        assert len({tuple(run.reference) for run in runs}) == 1
    assert volumes[name] > 1.02 * volumes["random"]


def test_result_is_the_measured_front_with_its_predictions() -> None:
    evaluation = Evaluation()
    result = search(problem(), evaluation, budget=60, seed=0, predictors=RIDGE)
    everything = result.evaluations
    assert everything["arch_id"].tolist() == [arch.id for arch in evaluation.archs]
    assert evaluation.archs[:2] == [SPACE.smallest, SPACE.largest]
    assert set(evaluation.origins) == {"search"}
    assert len(everything) == 60
    measured = everything[["cross_entropy", "macs"]].to_numpy()
    front = result.front
    assert set(front["arch_id"]) == set(everything["arch_id"][nondominated(measured)])
    assert front["macs"].is_monotonic_increasing
    assert (front["cross_entropy"] != front["predicted_cross_entropy"]).all()
    assert np.corrcoef(everything["cross_entropy"], everything["predicted_cross_entropy"])[0, 1] > 0.8
    assert (everything["top1"] == np.exp(-everything["cross_entropy"])).all()
    for arch, macs in zip(front["arch"], front["macs"], strict=True):
        assert SPACE.macs(arch) == macs
    record = json.loads(json.dumps(result.record()))
    assert record["predictors"]["cross_entropy"]["predictor"] == "ridge"
    assert record["reference"]["macs"] == pytest.approx(1.05 * SPACE.macs(SPACE.largest))
    # every point of the front lies inside the reference point, which both corners fixed
    assert (front["macs"] < record["reference"]["macs"]).all()


@pytest.mark.slow
def test_same_seed_same_search_and_a_killed_one_goes_on(tmp_path: Path) -> None:
    class Killed(Exception):  # noqa: N818
        pass

    class Remembering(Evaluation):
        """Looks into an archive first, and is killed when it has measured enough."""

        def __init__(self, archive: Archive, patience: int) -> None:
            super().__init__()
            self.archive, self.patience = archive, patience

        def __call__(self, archs: Sequence[Arch], origin: str) -> list[dict[str, float]]:
            rows = []
            for arch in archs:
                known = self.archive.get(arch, "validation", "c")
                if known is None:
                    if len(self.archs) == self.patience:
                        raise Killed
                    (measured,) = super().__call__([arch], origin)
                    known = self.archive.add(arch, "validation", "c", measured, origin)
                rows.append(known)
            return rows

    undisturbed = search(problem(), Evaluation(), budget=70, batch=20, seed=5, predictors=RIDGE)
    archive = Archive(tmp_path / "archive.sqlite")
    with pytest.raises(Killed):
        search(problem(), Remembering(archive, 45), budget=70, batch=20, seed=5, predictors=RIDGE)
    rest = Remembering(archive, 1000)
    resumed = search(problem(), rest, budget=70, batch=20, seed=5, predictors=RIDGE)
    assert len(rest.archs) == 70 - 45
    pd.testing.assert_frame_equal(resumed.evaluations, undisturbed.evaluations)
    assert resumed.record() == undisturbed.record()


def test_limits_hold_on_the_front() -> None:
    bound = SPACE.macs(SPACE.largest) / 4
    result = search(problem(limits=[("macs", bound)]), Evaluation(), budget=60, seed=0, predictors=RIDGE)
    assert len(result.front) > 3
    assert (result.front["macs"] <= bound).all()
    assert (result.evaluations["feasible"] == (result.evaluations["macs"] <= bound)).all()


def test_impossible_computed_limit_is_reported_before_any_evaluation() -> None:
    evaluation = Evaluation()
    least = f"macs = {SPACE.macs(SPACE.smallest):.6g}"
    with pytest.raises(
        ValueError, match=f"macs <= 10: the closest one, {SPACE.smallest.id}, reaches {least}"
    ):
        search(problem(limits=[("macs", 10)]), evaluation, budget=60, seed=0, predictors=RIDGE)
    assert evaluation.archs == []


def test_no_evaluation_begins_after_the_deadline_but_the_least_that_a_result_needs() -> None:
    result = search(problem(), Evaluation(), budget=60, seed=0, predictors=RIDGE, deadline=time.monotonic())
    assert len(result.evaluations) == 10

    class Slow(Evaluation):
        """The third call takes too long."""

        def __call__(self, archs: Sequence[Arch], origin: str) -> list[dict[str, float]]:
            if len(self.archs) > 20:
                now[0] += 100
            return super().__call__(archs, origin)

    now = [0.0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nas.search.search_loop.time.monotonic", lambda: now[0])
        patch.setattr("nas.evaluation.deadline.usable_cores", lambda: 2)
        evaluation = Slow()
        search(problem(), evaluation, algorithm="random", budget=200, seed=0, predictors=RIDGE, deadline=50.0)
    assert len(evaluation.archs) == 2 + 30  # the two corners, then three times ten


def test_message_of_an_impossible_measured_limit_has_the_best_value() -> None:
    limits = [("cross_entropy", 1e-6)]
    with pytest.raises(ValueError, match=r"cross_entropy <= 1e-06: the closest one, \w+, reaches cross_ent"):
        search(problem(limits=limits), Evaluation(), budget=40, seed=0, predictors=RIDGE)


def test_bad_algorithm_and_budget_are_refused() -> None:
    with pytest.raises(ValueError, match=r"search algorithm must be one of .*'iterative'"):
        search(problem(), Evaluation(), algorithm="annealing", budget=60, seed=0)
    with pytest.raises(ValueError, match="budget must be >= 10 real evaluations, got 9"):
        search(problem(), Evaluation(), budget=9, seed=0)


def test_algorithm_of_a_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_search.py").write_text(
        "class Small:\n"
        "    'The subnets one gene away from the smallest.'\n"
        "    def __init__(self, task):\n"
        "        import numpy as np\n"
        "        space = task.problem.space\n"
        "        self.steps = np.eye(len(space.genes), dtype=np.int64)\n"
        "        self.steps = self.steps[space.canonical(self.steps).any(axis=1)]\n"
        "    def ask(self, n):\n"
        "        batch, self.steps = self.steps[:n], self.steps[n:]\n"
        "        return batch\n"
        "    def tell(self, genomes, metrics):\n"
        "        pass\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    result = search(
        problem(),
        Evaluation(),
        algorithm="my_search:Small",
        budget=30,
        seed=0,
        predictors=RIDGE,
        allow_import=True,
    )
    assert 2 < len(result.evaluations) < 30  # both corners and every gene of the smallest subnet's layers
    assert result.algorithm == "my_search:Small"


# ---------------------------------------------------------------------- baselines


def test_regularised_evolution_changes_one_gene_of_a_subnet_that_is_still_young() -> None:
    optimizer = RegularizedEvolution(SearchTask(problem(TINY), 32, np.random.default_rng(0)))
    corners = TINY.encode([TINY.smallest, TINY.largest])
    optimizer.tell(corners, {"cross_entropy": cross_entropy(TINY, corners)})
    start = optimizer.ask(8)  # a population of budget / 4
    optimizer.tell(start, {"cross_entropy": cross_entropy(TINY, start)})
    young = np.concatenate([corners, start])[-8:]  # the oldest are the first to leave, however good
    for child in optimizer.ask(8):
        assert any(one_gene_apart(child, parent) for parent in young)


def one_gene_apart(child: Genomes, parent: Genomes) -> bool:
    """Whether one changed gene makes `child` of `parent`."""
    for column, n in enumerate(TINY.n_options):
        for option in range(n):
            changed = parent.copy()
            changed[column] = option
            if (TINY.canonical(changed[None])[0] == child).all():
                return True
    return False


def test_order_puts_limits_first_then_rank_then_room() -> None:
    evaluated = History(problem(TINY, limits=[("cross_entropy", 5.0)]))
    macs = macs_table(TINY)(every_genome(TINY))
    genomes = every_genome(TINY)[np.argsort(macs, kind="stable")]
    _, first = np.unique(np.sort(macs), return_index=True)
    genomes = genomes[first[:6]]  # of rising MACs, so that the losses alone make the ranks
    evaluated.add(genomes, {"cross_entropy": np.array([4.0, 3.0, 2.9, 2.0, 3.5, 9.0])})
    place = crowded_order(evaluated, np.arange(6))
    # the front is 0 1 2 3 with the ends first; 4 is dominated, 5 misses the limit
    assert sorted(place[:4]) == [0, 1, 2, 3]
    assert sorted(place[[0, 3]]) == [0, 1]
    assert place[4:].tolist() == [4, 5]


def every_genome(space: Space) -> Genomes:
    every = np.array(list(itertools.product(*(range(n) for n in space.n_options))), dtype=np.int64)
    return np.unique(space.canonical(every), axis=0)


def test_linas_asks_for_the_last_population_of_its_inner_search() -> None:
    optimizer = SEARCH_ALGORITHMS["linas"](SearchTask(problem(), 300, np.random.default_rng(0)))
    asked = SPACE.encode([SPACE.smallest, SPACE.largest])
    sizes = []
    for _ in range(4):
        optimizer.tell(asked, {"cross_entropy": cross_entropy(SPACE, asked)})
        asked = optimizer.ask(1000)
        sizes.append(len(asked))
    assert sizes[0] == 48  # 50 before the first fit, the corners included
    assert all(0 < size <= 50 for size in sizes[1:])  # whatever is asked for, one population


# ---------------------------------------------------------------------- local search


def test_neighbours_differ_in_one_gene_and_are_all_there() -> None:
    genome = TINY.encode([TINY.largest])[0]
    found = neighbours(TINY, genome)
    assert all(one_gene_apart(row, genome) for row in found)
    assert len(found) == (TINY.n_options - 1).sum()


def test_local_search_ends_with_a_front_that_no_single_step_improves() -> None:
    start = TINY.encode([TINY.smallest, TINY.largest])
    scored, none = score(start)
    front = improve(TINY, score, Evolved(start, scored, 0.0, start), np.random.default_rng(0), 50)
    values, _ = score(front)
    assert len(nondominated(values)) == len(front)
    for row in front:
        for step in score(neighbours(TINY, row))[0]:
            assert (values <= step).all(axis=1).any()
    assert none.shape == (2, 0)


def test_local_search_keeps_limits() -> None:
    bound = float(np.median(macs_table(TINY)(every_genome(TINY))))

    def limited(genomes: Genomes) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return score(genomes)[0], (macs_table(TINY)(genomes) / bound - 1)[:, None]

    start = TINY.encode([TINY.smallest])
    found = Evolved(start, score(start)[0], 0.0, start)
    front = improve(TINY, limited, found, np.random.default_rng(0), 50)
    assert len(front) > 1
    assert (macs_table(TINY)(front) <= bound).all()
    nothing = Evolved(start, score(start)[0], 0.5, start)
    assert improve(TINY, limited, nothing, np.random.default_rng(0), 5) is start


# ---------------------------------------------------------------------- more than two objectives


@pytest.mark.parametrize(("m", "n", "expected"), [(3, 100, 91), (4, 100, 84), (3, 3, 3), (6, 4, 6)])
def test_reference_directions_are_as_many_as_the_population_has_room_for(
    m: int, n: int, expected: int
) -> None:
    """Of p partitions there are (p + m - 1 over m - 1): 91 of 12, 84 of 6; one partition is the least."""
    directions = reference_directions(m, n)
    assert directions.shape == (expected, m)
    np.testing.assert_allclose(directions.sum(axis=1), 1)


def test_evolution_finds_most_of_an_exact_front_of_three_objectives() -> None:
    def three(genomes: Genomes) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return np.c_[score(genomes)[0], params_table(TINY)(genomes)], np.zeros((len(genomes), 0))

    every = every_genome(TINY)
    truth = three(every)[0][nondominated(three(every)[0])]
    found = evolve(TINY, three, every[:3], np.random.default_rng(0), 600, population=20)
    assert {tuple(row) for row in found.minimised} == {tuple(row) for row in truth}


# ---------------------------------------------------------------------- coarse to fine


def test_skeletons_make_every_kind_of_choice_alike() -> None:
    kinds = [gene.name.rsplit(".", 1)[-1] for gene in SPACE.genes]
    raw_levels = skeletons(SPACE)
    assert (raw_levels == SPACE.canonical(raw_levels)).all()
    ends = {tuple(row) for row in SPACE.encode([SPACE.smallest, SPACE.largest])}
    assert ends <= {tuple(row) for row in raw_levels}
    assert len(raw_levels) <= 3 ** len(set(kinds))
    depths = [i for i, kind in enumerate(kinds) if kind == "depth"]
    levels = raw_levels[:, depths] / (SPACE.n_options[depths] - 1)
    assert np.ptp(np.round(levels * 2) / 2, axis=1).max() <= 0.5  # two options have no middle


def test_coarse_to_fine_ends_a_step_from_what_it_knows() -> None:
    optimizer = SEARCH_ALGORITHMS["coarse_to_fine"](SearchTask(problem(TINY), 10, np.random.default_rng(0)))
    evaluated = TINY.encode([TINY.smallest, TINY.largest])
    asked = evaluated
    for _ in range(2):  # the corners, then the skeletons of half the budget
        optimizer.tell(asked, {"cross_entropy": cross_entropy(TINY, asked)})
        asked = optimizer.ask(50)
        evaluated = np.concatenate([evaluated, asked])
    before = evaluated[: -len(asked)]
    assert len(asked)
    for row in asked:
        assert any(one_gene_apart(row, parent) for parent in before)
