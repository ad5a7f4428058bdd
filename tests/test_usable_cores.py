import math
import os
from pathlib import Path

import pytest
import torch

from hw_profiles.measuring.runner.process_limits import cpu_quota, throttled_periods, usable_cores
from nas.training import accelerator


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n", encoding="utf-8")
    return root


V2 = {"proc/self/cgroup": "0::/pod/job"}
V1 = {"proc/self/cgroup": "5:memory:/pod\n4:cpu,cpuacct:/pod/job\n0::/"}
V1_CPU = "sys/fs/cgroup/cpu,cpuacct"


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, math.inf),  # no control groups at all
        (V2, math.inf),
        (V2 | {"sys/fs/cgroup/pod/job/cpu.max": "max 100000"}, math.inf),
        (V2 | {"sys/fs/cgroup/pod/job/cpu.max": "150000 100000"}, 1.5),
        # the smallest quota on the way up counts
        (
            V2 | {"sys/fs/cgroup/pod/job/cpu.max": "max 100000", "sys/fs/cgroup/pod/cpu.max": "50000 100000"},
            0.5,
        ),
        # a container sees its own group as the root, whatever path the process list names
        (V2 | {"sys/fs/cgroup/cpu.max": "20000 100000"}, 0.2),
        (
            V1
            | {f"{V1_CPU}/pod/job/cpu.cfs_quota_us": "-1", f"{V1_CPU}/pod/job/cpu.cfs_period_us": "100000"},
            math.inf,
        ),
        (V1 | {f"{V1_CPU}/cpu.cfs_quota_us": "250000", f"{V1_CPU}/cpu.cfs_period_us": "100000"}, 2.5),
        # the quota of another controller's hierarchy is no CPU quota
        (
            V1
            | {
                "sys/fs/cgroup/memory/pod/cpu.cfs_quota_us": "1",
                "sys/fs/cgroup/memory/pod/cpu.cfs_period_us": "9",
            },
            math.inf,
        ),
    ],
)
def test_quota_of_the_control_groups(tmp_path: Path, files: dict[str, str], cores: float) -> None:
    root = write(tmp_path, files)
    assert cpu_quota(root) == cores
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    # 0.2 and 0.5 cores are one thread, 1.5 cores two
    assert usable_cores(root) == (affinity if cores == math.inf else min(affinity, math.ceil(cores)))


def test_throttled_periods_of_the_group_and_those_above_it(tmp_path: Path) -> None:
    assert throttled_periods(write(tmp_path / "none", V2)) == 0
    version_2 = V2 | {
        "sys/fs/cgroup/pod/job/cpu.stat": "usage_usec 9\nnr_periods 7\nnr_throttled 3\nthrottled_usec 100",
        "sys/fs/cgroup/pod/cpu.stat": "nr_periods 7\nnr_throttled 2\nthrottled_usec 100",
    }
    assert throttled_periods(write(tmp_path / "2", version_2)) == 5
    version_1 = V1 | {f"{V1_CPU}/pod/job/cpu.stat": "nr_periods 7\nnr_throttled 4\nthrottled_time 100"}
    assert throttled_periods(write(tmp_path / "1", version_1)) == 4
    # two names of one hierarchy count once
    (tmp_path / "1" / "sys/fs/cgroup/cpu").symlink_to("cpu,cpuacct")
    assert throttled_periods(tmp_path / "1") == 4


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="affinity of Linux")
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system has no CPU affinity")
def test_affinity_is_respected(tmp_path: Path) -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert usable_cores(tmp_path) == 1
    finally:
        os.sched_setaffinity(0, before)


def test_training_shares_the_cores_among_its_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accelerator, "usable_cores", lambda: 6)
    for torchs, processes, threads in ((16, 1, 6), (16, 2, 3), (16, 8, 1), (2, 1, 2)):
        monkeypatch.setattr(torch, "get_num_threads", lambda torchs=torchs: torchs)
        assert accelerator.default_threads(processes) == threads
