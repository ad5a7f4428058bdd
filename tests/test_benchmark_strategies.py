from pathlib import Path

import numpy as np
import pytest
from conftest import TINY_YAML

import search_spaces
from benchmarks import gap_against_steps, strategy_table
from benchmarks.strategy_table import paired, table, verdict
from benchmarks.training_strategies import STRATEGIES, choose_subnets, study
from nas.recipes import recipe
from nas.recipes.recipe import Recipe
from nas.samplers import SAMPLERS
from search_spaces import Space


def test_study_has_every_sampler() -> None:
    base = recipe.load("digits")
    studied = {base.replace(strategy.changes).sampler.kind for strategy in STRATEGIES.values()}
    # the largest subnet is the teacher of progressive shrinking; a curriculum begins with trained weights
    assert studied == SAMPLERS.keys() - {"largest", "one_subnet", "curriculum"}


def test_sizes_of_the_subnets_of_the_study(tiny: Space) -> None:
    space = search_spaces.get("digits")
    subnets = choose_subnets(space, n_random=10, n_ranked=20)
    macs = [np.array([space.macs(arch) for arch in archs]) for archs in (subnets.spread, subnets.alike)]
    median = space.macs(subnets.corners[1])
    assert (np.abs(macs[1] / median - 1) <= 0.05).all()
    assert np.ptp(macs[0]) > 10 * np.ptp(macs[1])
    assert [len(archs) for archs in (subnets.random, subnets.spread, subnets.alike)] == [10, 10, 10]


def test_paired_difference_has_a_small_interval() -> None:
    rng = np.random.default_rng(0)
    subnets = rng.normal(size=40)  # with a larger variance than the strategies
    ours, theirs = (subnets + shift + 0.01 * rng.normal(size=(3, 40)) for shift in (-0.05, 0.0))
    difference = paired(ours, theirs, np.mean)
    assert difference[1] < -0.05 < difference[2]
    assert verdict(difference, lower_is_better=True) == "better"
    assert verdict(difference) == "worse"
    assert verdict(paired(theirs, theirs, np.mean)) == "tied"


def tiny_recipe(folder: Path) -> Recipe:
    (folder / "tiny.yaml").write_text(TINY_YAML)
    text = f"{{space: {folder / 'tiny.yaml'}, epochs: 1, data: {{dataset: digits, batch_size: 448}}}}"
    return recipe.parse(text, ["compute={accelerator: cpu, threads: 1}", "sampler.n_random=1"])


@pytest.mark.slow
def test_small_study_resumes_and_writes_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strategy_table, "RESAMPLES", 20)
    base = tiny_recipe(tmp_path)
    subnets = choose_subnets(search_spaces.parse(TINY_YAML), n_random=3, n_ranked=6)
    names, out = ["sandwich", "progressive"], tmp_path / "study"
    first = study(out, base, subnets, names, seeds=[0])
    assert {row["strategy"] for row in first["strategies"]} == set(names)
    lines = table(first).splitlines()
    assert sum(line.startswith(("| sandwich", "| progressive")) for line in lines) == 2
    (out / "strategies" / "progressive-0.json").unlink()  # as after an interruption
    status = (out / "strategies" / "sandwich-0.json").stat()
    again = study(out, base, subnets, names, seeds=[0])
    assert (out / "strategies" / "sandwich-0.json").stat() == status
    for row, before in zip(again["strategies"], first["strategies"], strict=True):
        assert row | {"ms_per_step": 0} == before | {"ms_per_step": 0}


@pytest.mark.slow
def test_gap_against_steps_resumes(tmp_path: Path) -> None:
    base, out = tiny_recipe(tmp_path), tmp_path / "gap"
    rows = gap_against_steps.gaps(out, base, epochs=[1, 2], seeds=[0], n=2)
    assert [row["steps"] for row in rows] == [2, 4]  # two batches of 448 of the 897 training images per epoch
    for row in rows:
        assert row["gap_points"] == pytest.approx(row["inherited_percent"] - row["alone_percent"])
    assert len(gap_against_steps.table(rows).splitlines()) == 2 + 2
    (out / "alone" / "2-0-1.json").unlink()  # as after an interruption
    status = (out / "inherited" / "1-0.json").stat()
    assert gap_against_steps.gaps(out, base, epochs=[1, 2], seeds=[0], n=2) == rows
    assert (out / "inherited" / "1-0.json").stat() == status
