"""How many CPU cores this process may use, which in a container is often fewer than the machine has."""

from __future__ import annotations

import math
import os
from pathlib import Path, PurePosixPath


def usable_cores(root: Path = Path("/")) -> int:
    """The CPU cores that this process may use: its affinity, limited by the CPU quota of its control groups.

    A quota of 1.5 cores counts as 2, since 2 threads are needed to use it up.

    Args:
        root: folder that holds `proc` and `sys`.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return math.ceil(min(affinity, cpu_quota(root)))


def cpu_quota(root: Path = Path("/")) -> float:
    """The CPU time per second that the control groups of this process allow, in cores; infinite without one.

    A group is limited by its own quota and by those of all groups above it. Versions 1 and 2 are supported.

    Args:
        root: folder that holds `proc` and `sys`.
    """
    quotas = [math.inf]
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        group = PurePosixPath(path.lstrip("/"))
        names = controllers.split(",") if controllers else []
        if names and "cpu" not in names:
            continue
        mounts = [controllers, "cpu"] if names else [""]  # version 2 has one hierarchy and no names
        for mount in mounts:
            for folder in (group, *group.parents):
                quotas.append(_quota_of(root / "sys/fs/cgroup" / mount / folder))
    return min(quotas)


def _quota_of(group: Path) -> float:
    """The quota of one control group, in cores; infinite where it has none or does not exist."""
    quota, _, period = _text(group / "cpu.max").partition(" ")
    if not quota:
        quota, period = _text(group / "cpu.cfs_quota_us"), _text(group / "cpu.cfs_period_us")
    try:
        cores = int(quota) / int(period)
    except (ValueError, ZeroDivisionError):  # no such file, or "max"
        return math.inf
    return cores if cores > 0 else math.inf  # version 1 says -1 for no quota


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
