"""Energy of one run.

A counter covers the whole processor or board, other processes included: measure while nothing else runs. The
power at idle is measured just before and subtracted.
"""

from __future__ import annotations

import glob
import subprocess
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from hw_profiles.measuring.runner.model import Model
from hw_profiles.measuring.runner.providers import NVIDIA
from hw_profiles.measuring.runner.system_files import read_numbers, read_system_file

IDLE_SECONDS, ENERGY_SECONDS = 1.0, 3.0
SAMPLE_SECONDS = 0.02
RAPL, HWMON = "/sys/class/powercap", "/sys/class/hwmon"


def measure_energy(model: Model) -> dict[str, Any]:
    """Energy of one run above idle in mJ and the name of the counter; None without a counter."""
    counter = energy_counter(model.provider)
    if counter is None:
        return {"energy_mj": None, "energy_counter": None}
    run = model.prepare(model.open())
    seconds: list[float] = []

    def work() -> None:
        end = time.perf_counter() + ENERGY_SECONDS
        while time.perf_counter() < end:
            start = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - start)

    start = time.perf_counter()
    idle_joules = counter.joules(lambda: time.sleep(IDLE_SECONDS))
    idle_watts = idle_joules / (time.perf_counter() - start)
    joules = counter.joules(work) - idle_watts * sum(seconds)
    return {"energy_mj": 1000 * joules / len(seconds), "energy_counter": counter.name}


def energy_counter(provider: str) -> EnergyCounter | None:
    """The counter that covers the hardware of a provider; None without one."""
    if provider in NVIDIA:
        return Nvml.find() or Ina.find()
    return Rapl.find() or Ina.find()


class EnergyCounter:
    """Measures the energy used during some work."""

    name: str

    def joules(self, work: Callable[[], None]) -> float:
        """The energy used during `work`."""
        raise NotImplementedError


class Rapl(EnergyCounter):
    """Energy counters of x86 processors, all packages together. On most systems only root may read them."""

    name = "RAPL"

    def __init__(self, packages: list[str]) -> None:
        self.packages = packages
        ranges = [int(read_system_file(path + "/max_energy_range_uj") or 2**62) for path in packages]
        self.ranges = np.array(ranges)

    @classmethod
    def find(cls) -> Rapl | None:
        """The counters of the processor; None if there are none or they are not readable."""
        packages = sorted(path for path in glob.glob(RAPL + "/intel-rapl:*") if path.count(":") == 1)
        readable = packages and all(read_system_file(path + "/energy_uj") for path in packages)
        return cls(packages) if readable else None

    def joules(self, work: Callable[[], None]) -> float:
        """See `EnergyCounter`. A counter wraps to 0 after its largest value."""
        before = self._read()
        work()
        return float(((self._read() - before) % self.ranges).sum() / 1e6)

    def _read(self) -> np.ndarray[Any, Any]:
        return np.array([int(read_system_file(path + "/energy_uj") or 0) for path in self.packages])


class SampledPower(EnergyCounter):
    """Energy from a power that is sampled."""

    def watts(self) -> float:
        """The power at this moment."""
        raise NotImplementedError

    def joules(self, work: Callable[[], None]) -> float:
        """See `EnergyCounter`."""
        done, samples = threading.Event(), [self.watts()]

        def sample() -> None:
            while not done.wait(SAMPLE_SECONDS):
                samples.append(self.watts())

        thread = threading.Thread(target=sample)
        start = time.perf_counter()
        thread.start()
        work()
        seconds = time.perf_counter() - start
        done.set()
        thread.join()
        return sum(samples) / len(samples) * seconds


class Ina(SampledPower):
    """Power sensors of a board, such as the INA3221 of a Jetson; the largest one is the input rail."""

    name = "INA"

    @classmethod
    def find(cls) -> Ina | None:
        """The sensors of the board; None without any."""
        return cls() if read_numbers(HWMON + "/hwmon*/power1_input") else None

    def watts(self) -> float:
        """See `SampledPower`."""
        return max(read_numbers(HWMON + "/hwmon*/power1_input")) / 1e6


class Nvml(SampledPower):
    """The power of the first NVIDIA GPU, as the driver reports it."""

    name = "NVML"

    @classmethod
    def find(cls) -> Nvml | None:
        """The driver; None if it does not answer."""
        try:
            cls().watts()
        except (OSError, ValueError, subprocess.CalledProcessError):
            return None
        return cls()

    def watts(self) -> float:
        """See `SampledPower`."""
        command = ["nvidia-smi", "--query-gpu=power.draw", "--format=csv,noheader,nounits", "--id=0"]
        return float(subprocess.run(command, capture_output=True, encoding="utf-8", check=True).stdout)
