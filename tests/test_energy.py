"""Energy counters, on made-up /sys folders."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import search_spaces
from hw_profiles.measuring.runner import energy
from hw_profiles.measuring.runner.energy import EnergyCounter, Ina, Nvml, Rapl, energy_counter, measure_energy
from hw_profiles.measuring.runner.model import Model
from hw_profiles.measuring.runner.providers import CPU
from hw_profiles.run_settings import RunSettings
from nas.onnx_backend import onnx_graph


def package(folder: Path, name: str, energy_uj: int, wrap_uj: int) -> Path:
    (folder / name).mkdir()
    (folder / name / "max_energy_range_uj").write_text(f"{wrap_uj}\n")
    (folder / name / "energy_uj").write_text(f"{energy_uj}\n")
    return folder / name / "energy_uj"


@pytest.fixture(autouse=True)
def sys_folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Path]:
    """Empty ones, and no driver."""
    folders = {name: tmp_path / name for name in ("powercap", "hwmon")}
    for folder in folders.values():
        folder.mkdir()
    monkeypatch.setattr(energy, "RAPL", str(folders["powercap"]))
    monkeypatch.setattr(energy, "HWMON", str(folders["hwmon"]))
    monkeypatch.setenv("PATH", str(tmp_path))
    return folders


def test_packages_are_summed_and_wrap(sys_folders: dict[str, Path]) -> None:
    first = package(sys_folders["powercap"], "intel-rapl:0", 9_000_000, 10_000_000)
    second = package(sys_folders["powercap"], "intel-rapl:1", 1_000_000, 10_000_000)
    package(sys_folders["powercap"], "intel-rapl:0:0", 0, 10)  # a part of the first
    counter = energy_counter(CPU)
    assert isinstance(counter, Rapl)

    def work() -> None:
        first.write_text("1000000")  # 2 J, over the end of its range
        second.write_text("1500000")  # 0.5 J

    assert counter.joules(work) == pytest.approx(2.5)


def test_counters_that_only_root_may_read_are_none(sys_folders: dict[str, Path]) -> None:
    package(sys_folders["powercap"], "intel-rapl:0", 0, 10).unlink()
    assert energy_counter(CPU) is None


def test_power_of_a_board_times_seconds(sys_folders: dict[str, Path]) -> None:
    for i, microwatts in enumerate((2_000_000, 5_000_000)):
        (sys_folders["hwmon"] / f"hwmon{i}").mkdir()
        (sys_folders["hwmon"] / f"hwmon{i}" / "power1_input").write_text(f"{microwatts}\n")
    counter = energy_counter(CPU)
    assert isinstance(counter, Ina)
    start = time.perf_counter()
    joules = counter.joules(lambda: time.sleep(0.1))
    assert 5 * 0.1 <= joules <= 5 * (time.perf_counter() - start)


def test_a_gpu_is_asked_through_its_driver(tmp_path: Path) -> None:
    assert energy_counter("CUDAExecutionProvider") is None
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho 40.0\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    counter = energy_counter("CUDAExecutionProvider")
    assert isinstance(counter, Nvml)
    assert counter.watts() == 40.0
    assert energy_counter(CPU) is None  # a GPU's counter says nothing about the CPU


class Clock:
    """A clock that only sleep and work move."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def perf_counter(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


class MadeCounter(EnergyCounter):
    """Of a machine that draws 2 W while it waits and 5 W at work."""

    name = "made"

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.watts = iter((2.0, 5.0))

    def joules(self, work: Callable[[], None]) -> float:
        start = self.clock.perf_counter()
        work()
        return next(self.watts) * (self.clock.perf_counter() - start)


def test_what_waiting_takes_is_not_counted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    space = search_spaces.get("cifar")
    blocks = space.blocks(space.smallest)
    model = onnx_graph.build(blocks, onnx_graph.random_weights(blocks, np.random.default_rng(0)))
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    opened = Model(str(tmp_path / "model.onnx"), RunSettings().model_dump())
    assert measure_energy(opened) == {"energy_mj": None, "energy_counter": None}
    clock = Clock()
    monkeypatch.setattr(energy, "time", clock)
    monkeypatch.setattr(energy, "energy_counter", lambda provider: MadeCounter(clock))
    monkeypatch.setattr(opened, "prepare", lambda session: lambda: clock.sleep(0.004))
    figures = measure_energy(opened)
    assert figures["energy_counter"] == "made"
    assert figures["energy_mj"] == pytest.approx(12.0)  # 3 W more than waiting, for the 4 ms of a run
