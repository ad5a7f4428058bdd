"""The CPU time that this process may use. In a container, it is often less than that of the machine."""

from __future__ import annotations

import math
import os
from typing import Union

from hw_profiles.measuring.runner.errors import RunnerError
from hw_profiles.measuring.runner.system_files import read_system_file

Root = Union[str, "os.PathLike[str]"]


def usable_cores(root: Root = "/") -> int:
    """The number of CPU cores that this process may use: its affinity, limited by its CPU quota.

    A quota of 1.5 cores counts as 2, since it takes 2 threads to use it up.

    Args:
        root: folder that holds `proc` and `sys`.
    """
    return math.ceil(min(_affinity(), cpu_quota(root)))


def cpu_quota(root: Root = "/") -> float:
    """The CPU time per second that the control groups of this process allow, in cores; infinite without one.

    A group is limited by its own quota and by those of all its parents. Versions 1 and 2 are supported.

    Args:
        root: folder that holds `proc` and `sys`.
    """
    return min([math.inf, *map(_quota_of, _cpu_groups(root))])


def throttled_periods(root: Root = "/") -> int:
    """The number of periods so far in which the CPU quota stopped the control groups of this process.

    Args:
        root: folder that holds `proc` and `sys`.
    """
    total = 0
    for group in _cpu_groups(root):
        for line in (read_system_file(os.path.join(group, "cpu.stat")) or "").splitlines():
            name, _, value = line.partition(" ")
            if name == "nr_throttled" and value.isdigit():
                total += int(value)
    return total


def check_threads(threads: int) -> None:
    """Check that each thread can have a core of its own.

    Raises:
        RunnerError: `threads` is below 1 or above the number of usable cores.
    """
    if threads < 1:
        raise RunnerError(f"threads must be >= 1, got {threads}")
    if threads > usable_cores():
        quota = cpu_quota()
        limit = f", CPU quota {quota:g} cores" if math.isfinite(quota) else ""
        raise RunnerError(
            f"threads must be <= {usable_cores()}, the CPU cores that this process may use on this device "
            f"(affinity {_affinity()} cores{limit}), got {threads}"
        )


def _affinity() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cpu_groups(root: Root) -> list[str]:
    """Folders of the control groups that may limit the CPU time of this process; some may not exist."""
    groups = []
    for line in (read_system_file(os.path.join(root, "proc/self/cgroup")) or "").splitlines():
        _, controllers, path = line.split(":", 2)
        names = controllers.split(",") if controllers else []
        if names and "cpu" not in names:
            continue
        parts = [part for part in path.split("/") if part]
        for mount in [controllers, "cpu"] if names else [""]:  # version 2 has one hierarchy without a name
            top = os.path.join(root, "sys/fs/cgroup", mount)
            groups += [os.path.join(top, *parts[:depth]) for depth in range(len(parts) + 1)]
    return sorted({os.path.realpath(group) for group in groups})


def _quota_of(group: str) -> float:
    """The quota of one control group in cores; infinite if it has none or does not exist."""
    quota, _, period = (read_system_file(os.path.join(group, "cpu.max")) or "").partition(" ")
    if not quota:
        quota = read_system_file(os.path.join(group, "cpu.cfs_quota_us")) or ""
        period = read_system_file(os.path.join(group, "cpu.cfs_period_us")) or ""
    try:
        cores = int(quota) / int(period)
    except (ValueError, ZeroDivisionError):  # no such file, or "max"
        return math.inf
    return cores if cores > 0 else math.inf  # version 1 writes -1 for no quota
