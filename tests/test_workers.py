"""Workers: the same results with any number and kind of them, also if one dies."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from conftest import TINY_ARCH

from nas.evaluation.workers import (
    ATTEMPTS,
    Group,
    Measure,
    Metrics,
    Outcome,
    Processes,
    RayTasks,
    Threads,
    Workers,
    workers,
)
from search_spaces import Arch, Space

if TYPE_CHECKING:  # processes import this file, and should not wait for torch
    from nas.evaluation.trained_run import TrainedRun


@dataclass(frozen=True)
class Fake:
    """Evaluates at once; dies or fails if a subnet is listed."""

    folder: Path
    deadly: tuple[str, ...] = ()
    """Ids of subnets that end the process that evaluates them, each `deaths` times."""
    deaths: int = 1
    bad: str = ""
    """Id of a subnet that cannot be evaluated."""
    error: type[Exception] = ValueError
    """The error that is raised for it."""

    def __call__(self, archs: Group, threads: int = 1, worker: int = 0) -> list[Outcome]:
        for arch in archs:
            if arch.id == self.bad:
                raise self.error(f"cannot measure {arch.id}")
            if arch.id in self.deadly:
                for n in range(self.deaths):
                    mark = self.folder / f"{arch.id}.{n}"
                    if not mark.exists():
                        mark.touch()
                        os.kill(os.getpid(), signal.SIGKILL)
        return [_result(arch, pid=os.getpid(), group=len(archs), worker=worker) for arch in archs]


def _result(arch: Arch, **more: float) -> Metrics:
    return {"resolution": float(arch["resolution"]), **more}


@pytest.fixture
def archs(tiny: Space) -> list[Arch]:
    return tiny.decode(np.unique(tiny.sample(np.random.default_rng(0), 12), axis=0))


def collect(pool: Workers, measure: Measure, groups: Sequence[Group]) -> dict[Arch, Metrics]:
    """The metrics of each subnet; each is evaluated once."""
    found: dict[Arch, Metrics] = {}
    for group, outcomes in pool(measure, groups):
        assert not found.keys() & set(group)
        for arch, outcome in zip(group, outcomes, strict=True):
            assert isinstance(outcome, dict)
            found[arch] = outcome
    return found


# ---------------------------------------------------------------------- processes


def test_processes_evaluate_each_subnet_once_and_are_reused(archs: list[Arch], tmp_path: Path) -> None:
    pool = Processes(2)
    groups = [archs[:4], archs[4:5], archs[5:]]
    first, second = (collect(pool, Fake(tmp_path), groups) for _ in range(2))  # equal, not identical
    pool.close()
    for found in (first, second):
        assert {arch: metrics["resolution"] for arch, metrics in found.items()} == {
            arch: arch["resolution"] for arch in archs
        }
        assert [found[group[0]]["group"] for group in groups] == [4, 1, len(archs) - 5]
    workers_by_pid = {m["pid"]: m["worker"] for found in (first, second) for m in found.values()}
    assert 1 <= len(workers_by_pid) <= 2
    assert os.getpid() not in workers_by_pid
    assert set(workers_by_pid.values()) <= {0, 1}


def test_group_of_a_lost_process_is_evaluated_again_in_parts(archs: list[Arch], tmp_path: Path) -> None:
    pool = Processes(2)
    deadly = (archs[0].id, archs[5].id)
    found = collect(pool, Fake(tmp_path, deadly, ATTEMPTS - 1), [archs[:4], archs[4:]])
    pool.close()
    assert found.keys() == set(archs)
    assert len(list(tmp_path.iterdir())) == 2 * (ATTEMPTS - 1)  # so often each of them died
    assert found[archs[0]]["group"] == 1  # 4, 2, 1


def test_a_subnet_that_ends_every_process_is_named(archs: list[Arch], tmp_path: Path) -> None:
    message = rf"subnet {archs[3].id} crashed 3 worker processes, the last one with signal 9 \(out of mem"
    with pytest.raises(ValueError, match=message):
        collect(Processes(1), Fake(tmp_path, (archs[3].id,), 2 + ATTEMPTS), [archs[:4]])  # groups of 4, 2, 1


def test_errors_of_a_process_are_raised(archs: list[Arch], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"cannot measure {archs[4].id}"):
        collect(Processes(1), Fake(tmp_path, bad=archs[4].id), [archs])
    with pytest.raises(RuntimeError, match=f"Unpicklable: cannot measure {archs[4].id}"):
        collect(Processes(1), Fake(tmp_path, bad=archs[4].id, error=Unpicklable), [archs])


class Unpicklable(Exception):  # noqa: N818
    """Its copy would be made from its text alone, which is too little."""

    def __init__(self, text: str, code: int = 3, *, needed: bool = True) -> None:
        super().__init__(text)
        self.lock = lambda: (code, needed)


def test_what_cannot_be_sent_to_processes_is_refused(archs: list[Arch]) -> None:
    with pytest.raises(ValueError, match=r"metrics that can be pickled: .*; use --workers threads"):
        collect(Processes(1), lambda archs, threads=1, worker=0: [], [archs])


class OtherConnection:
    """A connection that is no `multiprocessing.connection.Connection`, as on Windows."""

    def __init__(self, connection: Connection) -> None:
        self.fileno, self.close = connection.fileno, connection.close
        self.send, self.recv = connection.send, connection.recv


def test_connections_of_other_systems_are_used(
    archs: list[Arch], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    monkeypatch.setattr(type(context), "Pipe", lambda self: (OtherConnection(ours), theirs))
    pool = Processes(1)
    assert collect(pool, Fake(tmp_path), [archs]).keys() == set(archs)
    pool.close()


def test_stopped_half_way_the_pool_can_be_used_again(archs: list[Arch], tmp_path: Path) -> None:
    pool, measure = Processes(1), Fake(tmp_path)
    groups = [[arch] for arch in archs]
    with closing(pool(measure, groups)) as results:
        next(results)
    assert len(collect(pool, measure, groups)) == len(archs)
    pool.close()


# ---------------------------------------------------------------------- names


@pytest.mark.parametrize(("text", "kind"), [("threads", Threads), ("2", Processes), ("ray", RayTasks)])
def test_workers_by_name(text: str, kind: type) -> None:
    assert isinstance(workers(text), kind)


def test_there_is_a_thread_for_each_usable_core(monkeypatch: pytest.MonkeyPatch, archs: list[Arch]) -> None:
    monkeypatch.setattr("nas.evaluation.workers.usable_cores", lambda: 3)

    def measure(archs: Group, threads: int = 1, worker: int = 0) -> list[Outcome]:
        return [{"threads": threads}]

    assert collect(Threads(), measure, [archs[:1]]) == {archs[0]: {"threads": 3}}


@pytest.mark.parametrize("text", ["0", "-1", "many", "1.5", ""])
def test_other_names_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"--workers must be a number of processes > 0 or one of \['ray'"):
        workers(text)


# ---------------------------------------------------------------------- real evaluations


@pytest.mark.slow
def test_results_are_those_of_threads(trained: TrainedRun) -> None:
    """A process has another memory, another torch, other groups, and the same bits."""
    archs = [trained.space.smallest, trained.space.largest, TINY_ARCH]
    evaluation = trained.evaluator().evaluation
    expected = dict(zip(archs, trained.evaluator()(archs, "threads"), strict=True))
    for groups in ([archs], [archs[1:], archs[:1]]):
        pool = Processes(len(groups))
        assert collect(pool, evaluation, groups) == expected
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
        groups = [archs[i : i + 2] for i in range(0, len(archs), 2)]
        pool = RayTasks()
        assert pool.parallel == 2
        found: dict[Arch, Outcome] = {}
        for group, outcomes in pool(Slow(), groups):
            found |= zip(group, outcomes, strict=True)
            if len(found) == 4:
                cluster.remove_node(nodes[0], allow_graceful=False)
        assert found == {arch: _result(arch) for arch in archs}
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
    ray.init(address="local", num_cpus=1, log_to_driver=False, include_dashboard=False)
    groups = [[arch] for arch in archs]
    try:
        with closing(RayTasks()(Touch(tmp_path), groups)) as results:
            next(results)
        time.sleep(2.0)  # four more would run meanwhile
        assert len(list(tmp_path.iterdir())) < 4
        with pytest.raises(ValueError, match=f"^cannot measure {archs[0].id}$"):
            collect(RayTasks(), Fake(tmp_path, bad=archs[0].id), groups)
    finally:
        ray.shutdown()


@dataclass(frozen=True)
class Touch:
    """Leaves a file for each subnet."""

    folder: Path

    def __call__(self, archs: Group, threads: int = 1, worker: int = 0) -> list[Outcome]:
        time.sleep(0.5)
        for arch in archs:
            (self.folder / arch.id).touch()
        return [_result(arch) for arch in archs]


@dataclass(frozen=True)
class Slow:
    """Takes so long that every node has a group at any time."""

    def __call__(self, archs: Group, threads: int = 1, worker: int = 0) -> list[Outcome]:
        time.sleep(1.0)
        return [_result(arch) for arch in archs]
