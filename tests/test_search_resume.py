"""Searches that are killed, and searches that share an archive."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

import search_spaces
from nas.evaluation.archive import Archive
from nas.search.algorithms import iterative
from nas.search.problem.objectives import CostObjective, MetricObjective
from nas.search.problem.problem import Problem
from nas.search.search_loop import search
from nas.search.search_result import SearchResult
from predictors import PREDICTORS
from search_spaces import Arch
from search_spaces.costs import macs_table

SPACE = search_spaces.get("digits")
RIDGE = {"ridge": PREDICTORS["ridge"]}
BUDGET = 60
KILLS = 4


@pytest.fixture(autouse=True)
def short_inner_search(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(iterative, "INNER_EVALUATIONS", 300)
    monkeypatch.setattr(iterative, "LOCAL_PASSES", 1)


class Killed(BaseException):
    """What a kill is to a process: nothing runs after it."""


class Remembering:
    """Evaluates by a formula, keeps results in an archive, and dies after some new ones."""

    def __init__(self, path: Path, dies_after: int = 10**9) -> None:
        self.archive = Archive(path)
        self.left = dies_after
        self.new: list[str] = []

    def __call__(self, archs: Sequence[Arch], origin: str) -> list[dict[str, float]]:
        return [self._evaluated(arch, origin) for arch in archs]

    def _evaluated(self, arch: Arch, origin: str) -> dict[str, float]:
        known = self.archive.get(arch, "validation", "none")
        if known is not None:
            return known
        if self.left == 0:
            raise Killed
        self.left -= 1
        self.new.append(arch.id)
        genome = SPACE.encode([arch])
        loss = float(np.exp(-0.4 * np.log(SPACE.macs(arch) / 1e6) - 0.2 * np.sin(3 * genome).mean()))
        return self.archive.add(arch, "validation", "none", {"cross_entropy": loss}, origin)


def run(evaluate: Remembering, seed: int = 0) -> SearchResult:
    problem = Problem(
        SPACE, [MetricObjective("cross_entropy", "cross_entropy"), CostObjective("macs", macs_table(SPACE))]
    )
    return search(problem, evaluate, budget=BUDGET, batch=15, seed=seed, predictors=RIDGE)


@pytest.mark.slow
def test_killed_again_and_again_the_front_is_that_of_an_undisturbed_search(tmp_path: Path) -> None:
    undisturbed = run(Remembering(tmp_path / "undisturbed.sqlite"))
    rng, evaluated = np.random.default_rng(0), []
    for _ in range(KILLS):
        dying = Remembering(tmp_path / "archive.sqlite", dies_after=int(rng.integers(0, 6)))
        with pytest.raises(Killed):
            run(dying)
        evaluated += dying.new
    last = Remembering(tmp_path / "archive.sqlite")
    resumed = run(last)
    assert len(evaluated) > 5
    assert last.new
    assert sorted(evaluated + last.new) == sorted(undisturbed.evaluations["arch_id"])  # none twice
    assert resumed.evaluations.equals(undisturbed.evaluations)
    assert resumed.hypervolume == undisturbed.hypervolume


@pytest.mark.slow
def test_two_searches_share_an_archive(tmp_path: Path) -> None:
    """At the same time, with equal and with other seeds: each gets what it would have got alone."""
    alone = {seed: run(Remembering(tmp_path / f"{seed}.sqlite"), seed) for seed in (0, 1)}
    shared: dict[int, SearchResult] = {}
    evaluators = [Remembering(tmp_path / "shared.sqlite") for _ in range(3)]
    threads = [
        threading.Thread(target=lambda i=i, seed=seed: shared.update({i: run(evaluators[i], seed)}))
        for i, seed in enumerate((0, 1, 0))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, seed in enumerate((0, 1, 0)):
        assert shared[i].evaluations.equals(alone[seed].evaluations)
    wanted = {arch_id for result in alone.values() for arch_id in result.evaluations["arch_id"]}
    frame = Archive(tmp_path / "shared.sqlite").frame()
    assert sorted(frame["arch_id"]) == sorted(wanted)  # one row each, whoever was first


SCRIPT = """
import sys
sys.path[:0] = [{tests!r}, {root!r}]
from pathlib import Path
from nas.search.algorithms import iterative
from test_search_resume import Remembering, run
import time

iterative.INNER_EVALUATIONS, iterative.LOCAL_PASSES = {inner}, {passes}

class Slow(Remembering):
    def _evaluated(self, arch, origin):
        time.sleep(0.02)
        return super()._evaluated(arch, origin)

result = run(Slow(Path({archive!r})))
Path({out!r}).write_text(result.front.to_csv(index=False))
"""


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.slow
def test_killed_by_the_system_at_random_moments_the_front_is_the_same(tmp_path: Path) -> None:
    rng, tests = np.random.default_rng(1), Path(__file__).parent

    def start(archive: str) -> subprocess.Popen[bytes]:
        code = SCRIPT.format(
            tests=str(tests),
            root=str(tests.parent),
            archive=str(tmp_path / archive),
            out=str(tmp_path / f"{archive}.csv"),
            inner=iterative.INNER_EVALUATIONS,
            passes=iterative.LOCAL_PASSES,
        )
        return subprocess.Popen([sys.executable, "-c", code])

    undisturbed = run(Remembering(tmp_path / "undisturbed"))
    kills = 0
    while kills < 2:
        process = start("killed")
        while process.poll() is None and not (tmp_path / "killed").exists():
            time.sleep(0.05)  # until it is past its imports
        time.sleep(float(rng.uniform(0, 1.0)))
        if process.poll() is not None:  # it was faster: start over
            (tmp_path / "killed").unlink()
            continue
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        kills += 1
    assert start("killed").wait() == 0
    assert (tmp_path / "killed.csv").read_text(encoding="utf-8") == undisturbed.front.to_csv(index=False)
