import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import search_spaces
from nas import tasks
from nas.search.problem import objectives
from nas.search.problem.objectives import OBJECTIVES, Context, Objective
from nas.search.problem.problem import Problem, parse_constraint
from nas.search.search_problem import metric_objectives
from search_spaces import Genomes

SPACE = search_spaces.get("digits")
GENOMES = SPACE.sample(np.random.default_rng(0), 6)
METRICS = {"cross_entropy": np.linspace(0.1, 0.6, 6), "top1": np.linspace(0.99, 0.89, 6)}


def depth_ms(genomes: Genomes) -> NDArray[np.float64]:
    archs = SPACE.decode(genomes)
    return np.array([arch["stages.0.depth"] + arch["stages.1.depth"] for arch in archs], float)


METRIC_OBJECTIVES = metric_objectives(tasks.get("classification"))
CONTEXT = Context(SPACE, METRIC_OBJECTIVES, {"here": depth_ms})
TWO_DEVICES = Context(
    SPACE, METRIC_OBJECTIVES, {"pi4": depth_ms, "phone": lambda genomes: 2 * depth_ms(genomes)}
)


@pytest.mark.parametrize("name", [*OBJECTIVES, *METRIC_OBJECTIVES])
def test_every_objective_gives_one_value_per_genome_in_a_known_direction(name: str) -> None:
    objective = objectives.get(name, CONTEXT)
    assert isinstance(objective, Objective)
    assert objective.name == name
    assert objective(GENOMES, METRICS).shape == (6,)
    assert objective.maximise == (name == "accuracy")


def test_computed_objectives_are_those_of_the_walk_and_need_no_metrics() -> None:
    archs = SPACE.decode(GENOMES)
    for name, truth in (("macs", SPACE.macs), ("params", SPACE.params)):
        objective = objectives.get(name, CONTEXT)
        assert objective.metrics == ()
        assert objective(GENOMES, {}).tolist() == [truth(arch) for arch in archs]


def test_latency_names_its_device() -> None:
    assert objectives.get("latency_ms", CONTEXT)(GENOMES, {}).tolist() == depth_ms(GENOMES).tolist()
    phone = objectives.get("latency_ms@phone", TWO_DEVICES)
    assert (phone.name, phone.unit) == ("latency_ms@phone", "ms")
    assert phone(GENOMES, {}).tolist() == (2 * depth_ms(GENOMES)).tolist()


@pytest.mark.parametrize("name", ["latency_ms", "latency_ms@laptop"])
def test_latency_of_an_unknown_device_lists_the_known_ones(name: str) -> None:
    with pytest.raises(ValueError, match=r"devices \['phone', 'pi4'\]"):
        objectives.get(name, TWO_DEVICES)


def test_unknown_objective_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"objective must be one of .*'macs'.*got 'flops'"):
        objectives.get("flops", CONTEXT)


def test_problem_minimises_and_limits_in_the_users_order() -> None:
    problem = Problem(
        SPACE,
        [objectives.get(name, CONTEXT) for name in ("latency_ms", "accuracy")],
        [
            parse_constraint("latency_ms=6", "max", CONTEXT),
            parse_constraint("accuracy=0.95", "min", CONTEXT),
            parse_constraint("cross_entropy=0.5", "max", CONTEXT),
        ],
    )
    assert problem.metrics == ("top1", "cross_entropy")
    minimised = problem.as_minimization(GENOMES, METRICS)
    np.testing.assert_array_equal(minimised, np.c_[depth_ms(GENOMES), -METRICS["top1"]])
    np.testing.assert_array_equal(problem.to_user_units(minimised)[:, 1], METRICS["top1"])
    violations = problem.violations(GENOMES, METRICS)
    np.testing.assert_allclose(violations[:, 0], depth_ms(GENOMES) / 6 - 1)
    np.testing.assert_allclose(violations[:, 1], 1 - METRICS["top1"] / 0.95)
    # 0.1, 0.2, 0.3, 0.4, 0.5 keep the limit of 0.5 and 0.6 does not (with room for rounding at 0.5)
    assert (violations[:, 2] < 1e-9).tolist() == [True] * 5 + [False]


def test_problem_without_limits_has_no_violations() -> None:
    problem = Problem(SPACE, [objectives.get("macs", CONTEXT)])
    assert problem.violations(GENOMES, {}).shape == (6, 0)


@pytest.mark.parametrize("text", ["latency_ms", "latency_ms=", "=2", "latency_ms=fast", "latency_ms=-1"])
def test_malformed_limit_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"--max must be NAME=NUMBER .* such as latency_ms=2, got"):
        parse_constraint(text, "max", CONTEXT)


@pytest.mark.parametrize("number", ["nan", "inf", "0"])
def test_limit_that_is_no_positive_number_is_refused(number: str) -> None:
    with pytest.raises(ValueError, match="number > 0"):
        parse_constraint(f"macs={number}", "max", CONTEXT)


def test_objective_of_a_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_objective.py").write_text(
        "from nas.search.problem.objectives import CostObjective\n"
        "def widest(context):\n"
        "    def widths(genomes):\n"
        "        archs = context.space.decode(genomes)\n"
        "        return [max(arch['stages.0.width'], arch['stages.2.width']) for arch in archs]\n"
        "    return CostObjective('widest', widths, 'channels')\n"
        "def wrong(context):\n"
        "    return 3\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    widest = objectives.get("my_objective:widest", CONTEXT, allow_import=True)
    assert list(widest(SPACE.encode([SPACE.largest]), {})) == [40]  # the last stage of the space offers 40
    with pytest.raises(ValueError, match=r"must make an Objective .* got 3"):
        objectives.get("my_objective:wrong", CONTEXT, allow_import=True)
    with pytest.raises(ValueError, match="--allow-import"):
        objectives.get("my_objective:widest", CONTEXT)
