"""Describes a device, its runtime, and its current state."""

from __future__ import annotations

import math
import os
import platform
from typing import Any

import numpy as np
import onnxruntime

from hw_profiles.measuring.runner.process_limits import cpu_quota, usable_cores
from hw_profiles.measuring.runner.system_files import read_numbers, read_system_file


def describe_device() -> dict[str, Any]:
    """Properties that identify the device and its runtime; None for those that the system does not report."""
    quota = cpu_quota()
    return {
        "cpu": _cpu_name(),
        "board": read_system_file("/proc/device-tree/model"),
        "cores": os.cpu_count(),
        "usable_cores": usable_cores(),
        "cpu_quota": quota if math.isfinite(quota) else None,
        "governor": read_system_file("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "machine": platform.machine(),
        "instruction_set": instruction_set(),
        "os": platform.platform(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "runtime": "onnxruntime",
        "version": onnxruntime.__version__,
    }


def instruction_set() -> str:
    """`x86-vnni`, `x86`, `arm`, or the name of the machine. How INT8 values are stored depends on this."""
    machine = platform.machine().lower()
    if machine in ("x86_64", "amd64", "i386", "i686"):
        return "x86-vnni" if "vnni" in _cpu_info().get("flags", "") else "x86"
    return "arm" if machine.startswith(("arm", "aarch64")) else machine


def conditions() -> dict[str, float | None]:
    """Current temperature, clock and load: the hottest sensor and the fastest core; None if not reported."""
    temperatures = read_numbers("/sys/class/thermal/thermal_zone*/temp")
    frequencies = read_numbers("/sys/devices/system/cpu/cpu*/cpufreq/scaling_cur_freq")
    return {
        "temperature_c": max(temperatures) / 1000 if temperatures else None,
        "mhz": max(frequencies) / 1000 if frequencies else None,
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }


def _cpu_name() -> str:
    names = _cpu_info()
    return names.get("model name") or names.get("Model") or platform.processor()


def _cpu_info() -> dict[str, str]:
    """Fields of the last core in /proc/cpuinfo; empty if the system is not Linux."""
    lines = (read_system_file("/proc/cpuinfo") or "").splitlines()
    fields = [line.split(":", 1) for line in lines if ":" in line]
    return {key.strip(): value.strip() for key, value in fields}
