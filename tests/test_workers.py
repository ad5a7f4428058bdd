"""Workers: the same results wherever and however many, and what happens where one dies."""

from __future__ import annotations

import os
import signal
import time
from contextlib import closing
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from nas.evaluation.workers import ATTEMPTS, Measure, Metrics, Processes, RayTasks, Threads, Workers, workers
from search_spaces import Arch, Space

if TYPE_CHECKING:  # processes import this file, and should not wait for torch
    from nas.evaluation.trained_run import TrainedRun


@dataclass(frozen=True)
class Fake:
    """Measures at once; dies or fails where a file says so."""

    folder: Path
    deadly: tuple[str, ...] = ()
    """Ids of subnets that end the process that measures them, each `deaths` times."""
    deaths: int = 1
    bad: str = ""
    """Id of a subnet that cannot be measured."""
    error: type[Exception] = ValueError
    """What is raised for it."""

    def __call__(self, arch: Arch) -> Metrics:
        if arch.id == self.bad:
            raise self.error(f"cannot measure {arch.id}")
        if arch.id in self.deadly:
            for n in range(self.deaths):
                mark = self.folder / f"{arch.id}.{n}"
                if not mark.exists():
                    mark.touch()
                    os.kill(os.getpid(), signal.SIGKILL)
        return {"resolution": float(arch["resolution"]), "pid": float(os.getpid())}


@pytest.fixture
def archs(tiny: Space) -> list[Arch]:
    return tiny.decode(np.unique(tiny.sample(np.random.default_rng(0), 12), axis=0))


def collect(pool: Workers, measure: Measure, archs: list[Arch]) -> dict[int, Metrics]:
    return dict(pool(measure, archs))


# ---------------------------------------------------------------------- processes


def test_processes_measure_each_subnet_once_and_stay(archs: list[Arch], tmp_path: Path) -> None:
    pool = Processes(2)
    first, second = (collect(pool, Fake(tmp_path), archs) for _ in range(2))  # equal, not identical
    pool.close()
    for found in (first, second):
        assert [found[i]["resolution"] for i in range(len(archs))] == [arch["resolution"] for arch in archs]
    pids = {metrics["pid"] for found in (first, second) for metrics in found.values()}
    assert 1 <= len(pids) <= 2
    assert os.getpid() not in pids


def test_what_a_lost_process_measured_is_measured_again(archs: list[Arch], tmp_path: Path) -> None:
    pool = Processes(2)
    deadly = (archs[0].id, archs[5].id)
    found = collect(pool, Fake(tmp_path, deadly, ATTEMPTS - 1), archs)
    pool.close()
    assert sorted(found) == list(range(len(archs)))
    assert len(list(tmp_path.iterdir())) == 2 * (ATTEMPTS - 1)  # so often each of them died


def test_a_subnet_that_ends_every_process_is_named(archs: list[Arch], tmp_path: Path) -> None:
    message = rf"subnet {archs[3].id} crashed 3 worker processes, the last one with signal 9 \(out of mem"
    with pytest.raises(ValueError, match=message):
        collect(Processes(1), Fake(tmp_path, (archs[3].id,), ATTEMPTS), archs)


def test_errors_of_a_process_are_raised_where_they_were_asked_for(archs: list[Arch], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"cannot measure {archs[4].id}"):
        collect(Processes(1), Fake(tmp_path, bad=archs[4].id), archs)
    with pytest.raises(RuntimeError, match=f"Unpicklable: cannot measure {archs[4].id}"):
        collect(Processes(1), Fake(tmp_path, bad=archs[4].id, error=Unpicklable), archs)


class Unpicklable(Exception):  # noqa: N818
    """Its copy would be made from its text alone, which is too little."""

    def __init__(self, text: str, code: int = 3, *, needed: bool = True) -> None:
        super().__init__(text)
        self.lock = lambda: (code, needed)


def test_what_cannot_be_sent_to_processes_is_refused(archs: list[Arch]) -> None:
    with pytest.raises(ValueError, match=r"metrics that can be pickled: .*; use --workers threads"):
        collect(Processes(1), lambda arch: {"resolution": 1.0}, archs)


def test_stopped_half_way_the_pool_can_be_used_again(archs: list[Arch], tmp_path: Path) -> None:
    pool, measure = Processes(1), Fake(tmp_path)
    with closing(pool(measure, archs)) as results:
        next(results)
    assert len(collect(pool, measure, archs)) == len(archs)
    pool.close()


# ---------------------------------------------------------------------- names


@pytest.mark.parametrize(("text", "kind"), [("threads", Threads), ("2", Processes), ("ray", RayTasks)])
def test_workers_by_name(text: str, kind: type) -> None:
    assert isinstance(workers(text), kind)


@pytest.mark.parametrize("text", ["0", "-1", "many", "1.5", ""])
def test_other_names_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"--workers must be a number of processes > 0 or one of \['ray'"):
        workers(text)


# ---------------------------------------------------------------------- real evaluations


@pytest.mark.slow
def test_results_are_those_of_threads(trained: TrainedRun) -> None:
    """A process has another memory, another torch, and the same bits."""
    archs = [trained.space.smallest, trained.space.largest]
    measurement = trained.evaluator().measurement
    expected = trained.evaluator()(archs, "threads")
    for n in (1, 2, 4):
        pool = Processes(n)
        assert [found for _, found in sorted(pool(measurement, archs), key=itemgetter(0))] == expected
        pool.close()


@pytest.mark.slow
def test_a_ray_node_is_killed_and_nothing_is_lost(archs: list[Arch], monkeypatch: pytest.MonkeyPatch) -> None:
    """Two nodes in addition to the head; one of them is removed during an evaluation."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    here = Path(__file__).parent
    monkeypatch.setenv("PYTHONPATH", f"{here}{os.pathsep}{here.parent}")  # the nodes' code
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
        cluster.wait_for_nodes()
        ray.init(address=cluster.address, log_to_driver=False)
        expected = collect(Threads(1), Slow(), archs)
        found: dict[int, Metrics] = {}
        for i, metrics in RayTasks()(Slow(), archs):
            found[i] = metrics
            if len(found) == 2:
                cluster.remove_node(nodes[0], allow_graceful=False)
        assert found == expected
    finally:
        ray.shutdown()
        cluster.shutdown()


@pytest.mark.slow
def test_pending_ray_tasks_are_cancelled(
    archs: list[Arch], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = pytest.importorskip("ray")
    here = Path(__file__).parent
    monkeypatch.setenv("PYTHONPATH", f"{here}{os.pathsep}{here.parent}")  # the workers' code
    ray.init(num_cpus=1, log_to_driver=False, include_dashboard=False)
    try:
        with closing(RayTasks()(Touch(tmp_path), archs)) as results:
            next(results)
        time.sleep(2.0)  # four more would run meanwhile
        assert len(list(tmp_path.iterdir())) < 4
        with pytest.raises(ValueError, match=f"^cannot measure {archs[0].id}$"):
            collect(RayTasks(), Fake(tmp_path, bad=archs[0].id), archs)
    finally:
        ray.shutdown()


@dataclass(frozen=True)
class Touch:
    """Leaves a file for each subnet."""

    folder: Path

    def __call__(self, arch: Arch) -> Metrics:
        time.sleep(0.5)
        (self.folder / arch.id).touch()
        return {"resolution": float(arch["resolution"])}


@dataclass(frozen=True)
class Slow:
    """Takes long enough that every node has something in its hands."""

    def __call__(self, arch: Arch) -> Metrics:
        time.sleep(1.0)
        return {"resolution": float(arch["resolution"]), "stem": float(arch["stem.width"])}
