"""The exact front against full enumeration, against an integer program, and against evolution."""

import itertools
from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pandas as pd
import pytest
from conftest import make_device
from hypothesis import assume, given, settings
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp
from strategies import small_spaces

import search_spaces
from hw_profiles.latency_models.borders import border_frame, borders_in
from hw_profiles.latency_models.lookup_table import LatencyTable
from hw_profiles.latency_models.other_data import table_blocks
from hw_profiles.latency_models.robust_regression import IDENTITY, Affine
from nas.search.algorithms.evolution import evolve
from nas.search.problem import exact_front as module
from nas.search.problem.exact_front import Additive, ExactFront, Negated, exact_front
from nas.search.problem.hypervolume import nondominated
from search_spaces import Block, BlockTable, Genomes, Space, block_key
from search_spaces.costs import macs_table, params_table
from search_spaces.families.mbconv import MBConvConfig, MBConvSpace
from search_spaces.families.resnet import ResNetConfig, ResNetSpace
from search_spaces.operators import Conv2d
from search_spaces.precision_space import GRAINS, Grain, with_precision

Matrix = NDArray[np.float64]
OFA = search_spaces.get("ofa-mbv3-w1.0")
MAX_ENUMERATED = 30_000


def some(rng: np.random.Generator, *values: float) -> list[float]:
    """One to three of `values`, rising."""
    n = int(rng.integers(1, min(3, len(values)) + 1))
    return sorted(rng.choice(values, size=n, replace=False).tolist())


def random_mbconv(rng: np.random.Generator) -> Space:
    """Elastic widths at the boundaries, choices per block or stage, every kind of shortcut."""
    stages = [
        {
            "width": some(rng, 2, 4),
            "depth": some(rng, 1, 2, 3),
            "kernel": some(rng, 3, 5),
            "expand": some(rng, 1, 1.5, 3),
            "per": str(rng.choice(["block", "stage"])),
            "stride": int(rng.integers(1, 3)),
            "shortcut": str(rng.choice(["none", "identity", "pool", "projection"])),
        }
        for _ in range(int(rng.integers(2, 4)))
    ]
    config = {
        "name": "random",
        "family": "mbconv",
        "outputs": 3,
        "channels": 1,
        "resolutions": some(rng, 4, 7),
        "divisor": 2,
        "stem": {"width": some(rng, 2, 4)},
        "stages": stages,
        "head": {"width": some(rng, 4, 6)},
    }
    return MBConvSpace(MBConvConfig.model_validate(config))


def random_resnet(rng: np.random.Generator) -> Space:
    """A stem of elastic depth and expands that are chosen per block."""
    stages = [
        {"width": some(rng, 4, 8), "depth": some(rng, 1, 2, 3), "expand": some(rng, 0.25, 0.5, 1)}
        for _ in range(int(rng.integers(1, 3)))
    ]
    config = {
        "name": "random",
        "family": "resnet",
        "outputs": 3,
        "channels": 1,
        "resolutions": some(rng, 8, 12),
        "stem": {"width": some(rng, 4, 8), "mid": some(rng, 2, 4), "depth": some(rng, 2, 3)},
        "stages": stages,
        "divisor": 2,
    }
    return ResNetSpace(ResNetConfig.model_validate(config))


def random_space(rng: np.random.Generator) -> Space:
    """A space of 100 to 30,000 raw genomes."""
    while True:
        space = random_mbconv(rng) if rng.random() < 0.5 else random_resnet(rng)
        if 100 <= np.prod(space.n_options.astype(float)) <= MAX_ENUMERATED:
            return space


def random_costs(space: Space, rng: np.random.Generator, draw: Callable[[], float]) -> BlockTable:
    """A cost for each distinct block, so that it depends on its widths and on whether it has a shortcut."""
    costs: dict[str, float] = {}
    return BlockTable(space, lambda block: costs.setdefault(block_key(block), draw()))


def enumerated(space: Space) -> Genomes:
    """Every canonical genome."""
    every = np.array(list(itertools.product(*(range(n) for n in space.n_options))), dtype=np.int64)
    canonical: Genomes = every[(space.canonical(every) == every).all(axis=1)]
    return canonical


def front_of(points: Matrix) -> Matrix:
    """Non-dominated rows, sorted as `exact_front` sorts them."""
    front = points[nondominated(points)]
    return front[np.lexsort(front.T[::-1])]


# ---------------------------------------------------------------------- against full enumeration


@pytest.mark.parametrize("seed", range(16))
def test_front_of_a_random_space_is_that_of_full_enumeration(seed: int) -> None:
    """Bit for bit: random reals for even seeds, small integers, which tie often, for odd ones."""
    rng = np.random.default_rng(seed)
    space = random_space(rng)
    draw: list[Callable[[], float]] = [lambda: float(rng.random()), lambda: float(rng.integers(0, 6))]
    quantities: list[Additive] = [random_costs(space, rng, draw[seed % 2]) for _ in range(4)]
    everything = enumerated(space)
    assert len(everything) == space.n_subnets
    values = np.stack([quantity(everything) for quantity in quantities], axis=1)
    values[:, 1] *= -1

    two: list[Additive] = [quantities[0], Negated(quantities[1])]
    assert_front(space, exact_front(space, two), two, front_of(values[:, :2]))

    three = [*two, quantities[2]]
    assert_front(space, exact_front(space, three), three, front_of(values[:, :3]))

    bounds = np.quantile(values, 0.4, axis=0)  # of an objective, from below, of something else, both of two
    limits: list[tuple[Additive, float]] = [
        (quantities[0], float(bounds[0])),
        (quantities[2], float(bounds[2])),
        (Negated(quantities[3]), float(-bounds[3])),
    ]
    keeps = (values[:, [0, 2]] <= bounds[[0, 2]]).all(axis=1) & (values[:, 3] >= bounds[3])
    assert_front(space, exact_front(space, two, limits), two, front_of(values[keeps, :2]))


@settings(max_examples=12, deadline=None)
@given(small_spaces(), st.sampled_from(GRAINS), st.integers(0, 2**32))
def test_front_with_a_mixed_table_is_that_of_full_enumeration(base: Space, grain: Grain, seed: int) -> None:
    space, rng = with_precision(base, grain), np.random.default_rng(seed)
    assume(np.prod(space.n_options.astype(float)) <= MAX_ENUMERATED)
    rows = [
        {"block_key": key, "latency_ms": rng.random(), "trials": 1, "spread": 0.0}
        for key in table_blocks(base, "mixed")
    ]
    kinds = itertools.product(("fp32", "int8"), ("int8", "fp32"), (False, True))
    costs = {kind: Affine(slope=rng.random() / 100, intercept_ms=rng.random()) for kind in kinds}
    borders = border_frame(borders_in(base), costs)  # type: ignore[arg-type]
    latency = LatencyTable("d", pd.DataFrame(rows), IDENTITY, borders).of(space)
    quality = random_costs(space, rng, lambda: float(rng.random()))
    objectives: list[Additive] = [latency, Negated(quality)]
    everything = enumerated(space)
    values = np.stack([quantity(everything) for quantity in objectives], axis=1)
    assert_front(space, exact_front(space, objectives), objectives, front_of(values))


def test_subnets_in_int8_from_an_earlier_slot_on_are_in_one_state() -> None:
    stage = "{width: [4], depth: [1], kernel: [3], expand: [2]}"
    base = search_spaces.parse(
        f"name: one\noutputs: 3\nchannels: 1\nresolutions: [8]\ndivisor: 2\nstem: {{width: [4]}}\n"
        f"stages: [{', '.join([stage] * 4)}]\nhead: {{width: [8]}}"
    )
    space, rng = with_precision(base, "from"), np.random.default_rng(0)
    steps = module._merged(module._steps(space, [random_costs(space, rng, lambda: float(rng.random()))]))
    # before slot s: INT8 from any of the first s - 1 slots on is one state, each later slot and none another
    expected = [1, *(len(steps) - s + 2 for s in range(1, len(steps)))]
    assert [len(set(step.before.tolist())) for step in steps] == expected


def assert_front(space: Space, found: ExactFront, objectives: list[Additive], expected: Matrix) -> None:
    np.testing.assert_array_equal(found.minimised, expected)
    assert found.exact
    np.testing.assert_array_equal(found.genomes, space.canonical(found.genomes))
    reached = [quantity(space.encode(space.decode(found.genomes))) for quantity in objectives]
    np.testing.assert_array_equal(np.stack(reached, axis=1), expected)


@pytest.mark.parametrize("seed", range(5))
def test_front_with_a_tolerance_is_within_it_and_not_marked_exact(seed: int) -> None:
    rng = np.random.default_rng(seed)
    space = random_space(rng)
    objectives: list[Additive] = [random_costs(space, rng, lambda: float(rng.random())) for _ in range(3)]
    values = np.stack([quantity(enumerated(space)) for quantity in objectives], axis=1)
    found = exact_front(space, objectives, tolerance=0.1)
    assert not found.exact
    assert (found.error > 0).all()
    for point in values:  # some subnet of the front is no worse than any, but for the error
        assert (found.minimised <= point + found.error + 1e-12).all(axis=1).any()
    assert len(found.minimised) <= len(front_of(values))


def test_limits_that_nothing_keeps_give_an_empty_front(tiny: Space) -> None:
    least = float(tiny.macs(tiny.smallest))
    assert len(exact_front(tiny, [macs_table(tiny)], [(macs_table(tiny), least - 1)]).genomes) == 0
    assert len(exact_front(tiny, [macs_table(tiny)], [(params_table(tiny), 1.0)]).genomes) == 0
    (only,) = tiny.decode(exact_front(tiny, [macs_table(tiny)], [(macs_table(tiny), least)]).genomes)
    assert only == tiny.smallest


def test_a_front_too_large_for_memory_is_refused(monkeypatch: pytest.MonkeyPatch, tiny: Space) -> None:
    monkeypatch.setattr(module, "MAX_CANDIDATES", 10)
    with pytest.raises(ValueError, match=r"more than 10 candidates after slot \d.*fewer objectives"):
        exact_front(tiny, [macs_table(tiny), Negated(params_table(tiny))])


# ---------------------------------------------------------------------- latency tables


def test_a_latency_table_adds_up_with_its_calibration(tiny: Space) -> None:
    device = calibrated(tiny)
    latency = device.of(tiny)
    assert isinstance(latency, Additive)
    found = exact_front(tiny, [latency, Negated(macs_table(tiny))])
    everything = enumerated(tiny)
    values = np.stack([latency(everything), -macs_table(tiny)(everything)], axis=1)
    np.testing.assert_array_equal(found.minimised, front_of(values))


def test_missing_blocks_of_a_table_are_named(tiny: Space) -> None:
    device = make_device(tiny)
    table = LatencyTable("desk", device.blocks.iloc[1:], IDENTITY)
    with pytest.raises(ValueError, match=r"the table of the device 'desk' lacks 1 blocks .*nas profile tiny"):
        exact_front(tiny, [table.of(tiny)])


def calibrated(space: Space) -> LatencyTable:
    device = make_device(space)
    calibration = Affine(slope=1.1, intercept_ms=0.3)
    return LatencyTable("desk", device.blocks, calibration)


# ---------------------------------------------------------------------- against an integer program


def roofline(block: Block) -> float:
    """Milliseconds: like MACs, but steps of 32 channels and a part for each layer."""
    work = [(node.macs, node.output.channels) for node in block.nodes if node.macs]
    return sum(0.02 + 2e-8 * macs * (-(-channels // 32) * 32 / channels) for macs, channels in work)


def gain(block: Block) -> float:
    """Accuracy that grows with the logarithm of the work and likes some kernels more."""
    kernels = [node.op.kernel[0] for node in block.nodes if isinstance(node.op, Conv2d)]
    taste = {3: 0.0, 5: 0.4, 7: 0.2}.get(max(kernels), 0.0)
    return 0.5 * float(np.log1p(block.macs / 1e6)) + taste


def integer_program(space: Space, latency: BlockTable, accuracy: BlockTable) -> Callable[[float], float]:
    """The highest accuracy under a limit of latency, for a space without elastic widths.

    Variables: one for every block that may stand in a slot (given the resolution), one for every depth of a
    stage, one for every resolution; a slot has a block of the chosen resolution just where its stage is deep
    enough.
    """
    columns: list[tuple[float, float]] = []
    rows: list[dict[int, float]] = []  # each sums to `right`
    right: list[float] = []
    side = next(iter(space.columns(["resolution"])), None)
    sides = range(len(space.resolutions))
    depths = {s.depth: space.choices[s.depth].options for s in space.slots if s.depth}
    place: dict[Any, int] = {}
    for key in [("side", r) for r in sides] + [(d, v) for d, values in depths.items() for v in values]:
        place[key] = len(columns)
        columns.append((0.0, 0.0))
    one_of = [[place["side", r] for r in sides], *([place[d, v] for v in vs] for d, vs in depths.items())]
    rows += [dict.fromkeys(group, 1.0) for group in one_of]
    right += [1.0] * len(one_of)
    full = space.encode([space.largest])[0]
    for i, slot in enumerate(space.slots):
        own = [c for c in space.columns(slot.choices) if c != side]
        present: list[int] = []
        for r in sides:
            blocks: list[int] = []
            for options in itertools.product(*(range(space.n_options[c]) for c in own)):
                genome = full.copy()
                genome[own] = options
                if side is not None:
                    genome[side] = r
                blocks.append(len(columns))
                columns.append((latency.per_slot(genome[None])[0, i], accuracy.per_slot(genome[None])[0, i]))
            present += blocks
            if slot.depth is None:  # just the chosen resolution's
                rows.append(dict.fromkeys(blocks, 1.0) | {place["side", r]: -1.0})
                right.append(0.0)
            else:  # at most the chosen resolution's: with a slack
                slack = len(columns)
                columns.append((0.0, 0.0))
                rows.append(dict.fromkeys(blocks, 1.0) | {slack: 1.0, place["side", r]: -1.0})
                right.append(0.0)
        if slot.depth is not None:
            deep = {place[slot.depth, v]: -1.0 for v in depths[slot.depth] if v > slot.position}
            rows.append(dict.fromkeys(present, 1.0) | deep)
            right.append(0.0)
    matrix = np.zeros((len(rows), len(columns)))
    for number, row in enumerate(rows):
        matrix[number, list(row)] = list(row.values())
    costs = np.array(columns)

    def best(limit: float) -> float:
        constraints = [
            LinearConstraint(matrix, right, right),
            LinearConstraint(costs[:, 0][None], -np.inf, limit),
        ]
        solved = milp(
            -costs[:, 1],
            constraints=constraints,
            integrality=np.ones(len(columns), dtype=np.int64),
            bounds=Bounds(0, 1),
            options={"mip_rel_gap": 0},
        )
        assert solved.status == 0, solved.message
        return float(-solved.fun)

    return best


def best_by_front(front: ExactFront, limit: float) -> float:
    latency, accuracy = front.minimised.T
    return float(-accuracy[latency <= limit].min())


def test_best_under_a_limit_is_that_of_an_integer_program() -> None:
    space = search_spaces.parse(OFA.to_yaml().replace(one_side(OFA), "resolutions:\n- 160\n"))
    agrees_with_an_integer_program(space, n_limits=4)


@pytest.mark.slow
def test_best_under_limits_of_a_published_space_is_that_of_an_integer_program() -> None:
    agrees_with_an_integer_program(OFA, n_limits=8)


def one_side(space: Space) -> str:
    return "resolutions:\n" + "".join(f"- {side}\n" for side in space.resolutions)


def agrees_with_an_integer_program(space: Space, n_limits: int) -> None:
    latency, accuracy = BlockTable(space, roofline), BlockTable(space, gain)
    front = exact_front(space, [latency, Negated(accuracy)])
    solve = integer_program(space, latency, accuracy)
    low, high = latency(space.encode([space.smallest, space.largest]))
    for limit in np.linspace(low + 0.02 * (high - low), high, n_limits):
        # the solver's tolerance: it takes a limit as kept, and a variable as whole, within 1e-6
        assert solve(float(limit)) == pytest.approx(best_by_front(front, limit * (1 + 1e-9)), abs=2e-5)


# ---------------------------------------------------------------------- against evolution


@pytest.mark.slow
def test_no_subnet_of_an_evolution_beats_the_front() -> None:
    latency, accuracy = BlockTable(OFA, roofline), BlockTable(OFA, gain)
    front = exact_front(OFA, [latency, Negated(accuracy)])

    def score(genomes: Genomes) -> tuple[Matrix, Matrix]:
        return np.stack([latency(genomes), -accuracy(genomes)], axis=1), np.zeros((len(genomes), 0))

    found = evolve(OFA, score, OFA.encode([OFA.smallest, OFA.largest]), np.random.default_rng(0), 60_000)
    for point in found.minimised:
        assert (front.minimised <= point).all(axis=1).any()
