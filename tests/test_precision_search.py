"""Searches whose subnets have blocks in different precisions."""

from collections.abc import Sequence
from itertools import product

import numpy as np
import pytest
from conftest import BUDGET, Nas, assert_refused, make_device

from benchmarks.joint_precision import in_one_precision, saving
from benchmarks.mixed_files import gains, versions_of
from hw_profiles.device import Device
from hw_profiles.device_files import write_device
from nas.evaluation.trained_run import TrainedRun
from nas.report.report_run import report_run
from nas.runs.files import PROFILES, SEARCH, SEARCH_CSV
from nas.runs.tables import EVALUATED_AS, PRECISION
from nas.search.int8_loss import Int8Loss
from nas.search.known_front import known_front
from nas.search.mixed_evaluation import MixedEvaluation
from nas.search.options import SearchOptions
from nas.search.problem.exact_front import exact_front
from nas.search.problem.hypervolume import nondominated
from nas.search.problem.objectives import CostObjective, MetricObjective
from nas.search.problem.problem import Problem
from nas.search.search_loop import search
from nas.search.search_run import search_run
from nas.search.search_space import space_to_search
from search_spaces import Arch, Space
from search_spaces.costs import macs_table
from search_spaces.precision_space import GRAINS, Grain, with_precision

pytestmark = pytest.mark.usefixtures("quick_search")


# ---------------------------------------------------------------------- evaluations


class FakeEvaluations:
    """Metrics that depend on the arch alone: MACs in fp32; as deployed, 2 more for each block in INT8."""

    def __init__(self, space: Space, grain: Grain = "block") -> None:
        self.space = with_precision(space, grain)
        self.asked: list[Arch] = []

    def in_float(self, archs: Sequence[Arch], origin: str) -> list[dict[str, float]]:
        return [{"loss": float(self.space.base.macs(arch))} for arch in archs]

    def deployed(self, archs: Sequence[Arch], origin: str) -> list[dict[str, float]]:
        self.asked += archs
        n_int8 = [list(self.space.precisions(arch).values()).count("int8") for arch in archs]
        rows = self.in_float(list(map(self.space.base_arch, archs)), origin)
        return [{"loss": row["loss"] + 2 * n} for row, n in zip(rows, n_int8, strict=True)]


def test_a_share_of_the_subnets_is_evaluated_as_deployed(tiny: Space, rng: np.random.Generator) -> None:
    fake = FakeEvaluations(tiny)
    space, archs = fake.space, fake.space.decode(fake.space.sample(rng, 90))
    archs += [space.uniform(tiny.largest, "fp32")]
    exact = fake.deployed(archs, "")
    fake.asked.clear()
    evaluate = MixedEvaluation(space, fake.in_float, fake.deployed, share=0.5)
    found = [*evaluate(archs[:30], ""), *evaluate(archs[30:], "")]
    in_int8 = [arch for arch in archs if space.has_int8(arch)]
    assert fake.asked == in_int8[::2]  # the first one, then evenly spread
    for arch, row, truth in zip(archs, found, exact, strict=True):
        if arch in fake.asked or not space.has_int8(arch):
            assert row == truth
    # the changes of the others are near those as deployed: 2 for each of up to 6 blocks
    changes = np.array([truth["loss"] - space.macs(arch) for arch, truth in zip(archs, exact, strict=True)])
    errors = np.array([row["loss"] - truth["loss"] for row, truth in zip(found, exact, strict=True)])
    assert np.abs(errors[30:]).mean() < 0.5 * np.abs(changes - changes.mean()).mean()
    again = evaluate.again(archs, "", lambda archs, origin: [{"loss": 0.0} for _ in archs])
    assert [row["loss"] for row in again] == pytest.approx(
        [row["loss"] - space.macs(arch) for row, arch in zip(found, archs, strict=True)]
    )


@pytest.mark.parametrize("grain", GRAINS)
def test_precisions_of_evaluated_subnets_join_the_front_without_evaluations(
    tiny: Space, rng: np.random.Generator, grain: Grain
) -> None:
    fake = FakeEvaluations(tiny, grain)
    space = fake.space
    evaluate = MixedEvaluation(space, fake.in_float, fake.deployed, share=1)
    latency = make_device(tiny, precision="mixed").latency(space)
    problem = Problem(space, [MetricObjective("loss", "loss"), CostObjective("latency_ms", latency)], [])
    result = search(problem, evaluate, algorithm="random", budget=20, seed=0)
    n_deployed = len(fake.asked)
    joined = evaluate.with_other_precisions(result)
    assert len(fake.asked) == n_deployed
    assert joined.hypervolume > result.hypervolume
    added = joined.evaluations["arch"].iloc[len(result.evaluations) :].tolist()
    assert {space.base_arch(arch) for arch in added} <= set(map(space.base_arch, result.evaluations["arch"]))
    assert joined.evaluations["on_front"].iloc[len(result.evaluations) :].all()
    again = evaluate.with_other_precisions(joined)
    assert len(again.evaluations) == len(joined.evaluations)  # there is nothing more to gain


def test_loss_is_zero_without_int8_and_proportional_with_few_samples(tiny: Space) -> None:
    space = with_precision(tiny, "from")
    predict = Int8Loss(space)
    none, all_of_it = (space.uniform(tiny.largest, precision) for precision in ("fp32", "int8"))
    assert predict([all_of_it]) == [{}]
    predict.add([all_of_it], [{"a": 3.0, "b": -1.0}])
    assert predict([all_of_it, none]) == [{"a": 3.0, "b": -1.0}, {"a": 0.0, "b": 0.0}]


# ---------------------------------------------------------------------- spaces, problems


@pytest.mark.parametrize("grain", GRAINS)
def test_exact_front_of_a_mixed_space_is_that_of_an_enumeration(tiny: Space, grain: Grain) -> None:
    small = tiny.with_resolutions([8])
    space = with_precision(small, grain)
    latency = make_device(small, precision="mixed").latency(space)
    macs = macs_table(space)
    genomes = space.all_subnets() if grain != "block" else None
    if genomes is None:  # 2 ** 6 patterns of the 640 subnets would take seconds: those of one network
        fixed = space.uniform(small.largest, "fp32")
        names = [name for name in space.choices if name.endswith(".bits")]
        patterns = [
            fixed | dict(zip(names, bits, strict=True)) for bits in product((8, 32), repeat=len(names))
        ]
        genomes = space.encode(patterns)
    points = np.stack([-macs(genomes), latency(genomes)], axis=1)
    expected = points[nondominated(points)]
    if grain == "block":  # the largest network has the most MACs: its fastest pattern ends the front
        front = exact_front(space, [_Negative(macs), latency]).minimised
        assert front[0].tolist() == expected[0].tolist()
    else:
        front = exact_front(space, [_Negative(macs), latency]).minimised
        assert sorted(map(tuple, front.tolist())) == sorted(map(tuple, expected.tolist()))


class _Negative:
    def __init__(self, table) -> None:  # type: ignore[no-untyped-def]
        self._table, self.offset = table, 0.0

    def per_slot(self, genomes):  # type: ignore[no-untyped-def]
        return -self._table.per_slot(genomes)

    def __call__(self, genomes):  # type: ignore[no-untyped-def]
        return -self._table(genomes)


def test_precision_is_searched_on_devices_with_a_mixed_profile_only(tiny: Space) -> None:
    plain, mixed = make_device(tiny), make_device(tiny, "mixed", precision="mixed")
    assert space_to_search(tiny, [plain], None) is tiny
    found = space_to_search(tiny, [mixed], None)
    assert found.same_but_for_data(with_precision(tiny, "from"))
    assert space_to_search(tiny, [mixed], "block").same_but_for_data(with_precision(tiny, "block"))
    with pytest.raises(
        ValueError, match="--bits needs a profile of mixed precision, got the device 'desk' in fp32"
    ):
        space_to_search(tiny, [plain], "stage")
    with pytest.raises(ValueError, match="the other devices need a profile of mixed precision"):
        space_to_search(tiny, [mixed, plain], None)
    with pytest.raises(ValueError, match="--bits must be one of from, stage, block, got 'layer'"):
        SearchOptions(bits="layer")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="--int8-evaluations must be from 1 to 10, half of all"):
        SearchOptions(budget=20, int8_evaluations=11)


def test_bits_are_refused_for_a_uniform_profile(trained: TrainedRun, nas: Nas) -> None:
    write_device(trained.run.file(PROFILES) / "desk", make_device(trained.space))
    before = len(trained.archive.frame())
    refused = nas("search", trained.run.path, "--device", "desk", "--int8-evaluations", 5)
    assert_refused(refused, "--int8-evaluations has no effect: the precision is searched")
    assert_refused(
        nas("search", trained.run.path, "--device", "desk", "--bits", "stage"), "--precision mixed"
    )
    assert len(trained.archive.frame()) == before


# ---------------------------------------------------------------------- whole searches


@pytest.fixture
def mixed(trained: TrainedRun) -> Device:
    return make_device(trained.space, precision="mixed")


@pytest.mark.slow
def test_a_search_with_precision(trained: TrainedRun, mixed: Device) -> None:
    options = SearchOptions(
        budget=BUDGET,
        bits="stage",
        int8_evaluations=5,
        predictors=["ridge"],
        baseline="random",
        noise_ceiling=5,
    )
    outcome = search_run(trained, mixed, options)
    space = with_precision(trained.space, "stage")
    front, results = outcome.front, trained.run.search()
    # every row of the front was evaluated as deployed, and the versions in one precision have rows
    assert set(front[EVALUATED_AS]) <= {"mixed accuracy", "fp32 accuracy"}
    evaluated = results.read_csv(SEARCH_CSV).set_index("arch_id")
    for arch in front["arch"]:
        for precision in ("fp32", "int8"):
            version = space.uniform(space.base_arch(arch), precision)
            assert (
                evaluated[EVALUATED_AS][version.id]
                == ("fp32" if precision == "fp32" else "mixed") + " accuracy"
            )
            assert evaluated[PRECISION][version.id] == precision
    # 15 subnets in floating point, then the front's
    n_float = len(trained.archive.frame("validation", trained.evaluator().key))
    assert n_float <= 2 * 15
    record = results.read_json(SEARCH)
    assert record["bits"] == "stage"
    steps = {step["step"]: step["evaluations"] for step in record["cost"]["steps"]}
    assert (steps["search"], steps["search, as deployed"]) == (15, 5)
    # an interrupted search makes the same evaluations: nothing new is evaluated
    before = trained.archive.frame()
    again = search_run(TrainedRun.open(trained.run.path), mixed, options)
    assert len(trained.archive.frame()) == len(before)
    assert again.front["arch_id"].tolist() == front["arch_id"].tolist()

    picked, _ = known_front(trained.run, mixed)
    assert set(picked["arch_id"]) <= set(evaluated.index)
    assert PRECISION in picked
    page, _ = report_run(trained)
    text = page.read_text()
    assert "i8" in text
    assert "fp32 to" in text or "int8" in text
    # other searches of the run work on
    plain = make_device(trained.space, "plain")
    assert (
        PRECISION not in search_run(trained, plain, SearchOptions(budget=BUDGET, predictors=["ridge"])).front
    )
    assert known_front(trained.run, plain)[0]["arch_id"].tolist()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("algorithm", "grain"), [("exact", "block"), ("nsga2", "from"), ("iterative", "from")]
)
def test_algorithms_search_precision(
    trained: TrainedRun, mixed: Device, algorithm: str, grain: Grain
) -> None:
    options = SearchOptions(
        budget=BUDGET,
        bits=grain,
        int8_evaluations=4,
        algorithm=algorithm,
        predictors=["ridge"] if algorithm == "iterative" else (),
    )
    front = search_run(trained, mixed, options).front
    assert set(front[EVALUATED_AS]) <= {"mixed accuracy", "fp32 accuracy"}


# ---------------------------------------------------------------------- the benchmark


def test_saving_of_a_front_by_hand() -> None:
    front = np.array([[0.10, 9.0], [0.20, 6.0], [0.05, 20.0]])
    fp32, int8 = np.array([[0.10, 10.0], [0.20, 8.0]]), np.array([[0.12, 7.5]])
    # 9 instead of 10 ms: 10 %; 6 instead of 7.5 ms: 20 %; no other front reaches 0.05
    assert saving(front, [fp32, int8]) == pytest.approx(0.15)
    assert np.isnan(saving(front[2:], [fp32, int8]))


def test_fastest_precisions_are_those_of_an_enumeration(tiny: Space) -> None:
    small = tiny.with_resolutions([8])
    space, device = with_precision(small, "block"), make_device(small, precision="mixed")
    latency = device.latency(space)
    for arch in (small.smallest, small.largest):
        names = [f"{block.name}.bits" for block in small.blocks(arch)]
        patterns = [
            Arch({**arch, **dict(zip(names, bits, strict=True))})
            for bits in product((8, 32), repeat=len(names))
        ]
        versions = versions_of(small, space, device, arch)
        ms = dict(zip(versions, latency(space.encode(list(versions.values()))).tolist(), strict=True))
        assert ms["block"] == pytest.approx(latency(space.encode(patterns)).min())
        assert ms["block"] <= ms["from"] <= min(ms["fp32"], ms["int8"])
        assert gains({"fp32": 4.0, "int8": 5.0, "from": 3.0, "block": 2.0})["gain_block"] == 0.5


def test_a_space_in_one_precision_has_the_subnets_of_its_base(tiny: Space) -> None:
    space = in_one_precision(tiny, "int8")
    assert space.n_subnets == tiny.n_subnets
    arch = space.decode(space.sample(np.random.default_rng(0), 1))[0]
    assert set(space.precisions(arch).values()) == {"int8"}
    assert tiny.encode([space.base_arch(arch)]).shape == (1, len(space.genes))
