import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nas.runs.files import SPEED
from nas.runs.records import RunInfo
from nas.runs.run_dir import RunDir
from nas.training.log import TrainedSubnet, TrainingLog
from nas.training.monitor import Monitor
from search_spaces import Arch, Space


def steps(space: Space, tiny_arch: Arch) -> list[list[TrainedSubnet]]:
    small_images = space.largest | {"resolution": 6}
    return [
        [TrainedSubnet(space.largest, 1.0, 0.5), TrainedSubnet(tiny_arch, 4.0, 0.1)],
        [TrainedSubnet(small_images, 3.0, 0.7), TrainedSubnet(tiny_arch, 6.0, 0.3)],
    ]


def test_row_has_means_by_role(tiny: Space, tiny_arch: Arch) -> None:
    log = TrainingLog(tiny, steps=2, metric="top1")
    first, second = steps(tiny, tiny_arch)
    assert not log.add(1, 0.1, first)
    assert log.add(2, 0.2, second)
    (row,) = log.rows
    assert (row["step"], row["lr"]) == (2, 0.2)
    assert row["loss_largest"] == (1.0 + 3.0) / 2
    assert row["top1_largest"] == pytest.approx((0.5 + 0.7) / 2)
    sizes = [tiny.macs(tiny.largest), tiny.macs(tiny.largest | {"resolution": 6})]
    assert row["macs_largest"] == sum(sizes) / 2
    assert (row["loss_random"], row["macs_random"]) == (5.0, tiny.macs(tiny_arch))
    assert math.isnan(row["loss_smallest"])  # no step had the smallest subnet


def test_log_resumes_in_the_middle_of_an_epoch(tiny: Space, tiny_arch: Arch) -> None:
    uninterrupted, interrupted, resumed = (TrainingLog(tiny, steps=2, metric="top1") for _ in range(3))
    first, second = steps(tiny, tiny_arch)
    for step, subnets in enumerate([first, second, first, second], start=1):
        uninterrupted.add(step, 0.1, subnets)
        (interrupted if step < 4 else resumed).add(step, 0.1, subnets)
        if step == 3:
            resumed.load_state_dict(interrupted.state_dict())
    np.testing.assert_equal(resumed.rows, uninterrupted.rows)


@pytest.fixture
def run(tmp_path: Path, tiny: Space) -> RunDir:
    info = RunInfo(created="", versions={}, space="tiny", dataset="digits", output_names=["a", "b", "c"])
    return RunDir.create(tmp_path / "run", info, tiny, "")


def test_speed_of_a_resumed_run_is_appended_to_its_table(
    run: RunDir, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "nas")
    clock = iter([10.0, 14.0, 14.0, 100.0, 101.0])
    monkeypatch.setattr("nas.training.monitor.time.monotonic", lambda: next(clock))
    for first, rows in ((0, (6, 7)), (7, (9,))):
        monitor = Monitor(run, processes=2)
        for last in rows:
            for _ in range(first, last):
                monitor.step(16, loading_seconds=0.5, step_seconds=0.2)
            monitor.row({"step": last, "lr": 0.1})
            first = last
    speed = run.read_csv(SPEED)
    assert speed["step"].tolist() == [6, 7, 9]
    # the clock does not advance between the first two rows
    np.testing.assert_equal(speed["images_per_s"].to_numpy(), [6 * 16 / 4, np.nan, 2 * 16 / 1])
    # a process loads 16 images in 0.5 s, and there are two; a step takes 0.2 s
    np.testing.assert_allclose(speed["loader_images_per_s"], 2 * 16 / 0.5)
    np.testing.assert_allclose(speed["step_images_per_s"], 16 / 0.2)
    reports = [record.getMessage() for record in caplog.records]
    assert reports == [
        "24 images/s, limited by the loader (alone: loader with data.workers=2 64, training step 80)",
        "32 images/s, limited by the loader (alone: loader with data.workers=2 64, training step 80)",
    ]


def test_missing_tensorboard_is_an_error(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ValueError, match=r"pip install elastic-nas\[tensorboard\]"):
        Monitor(run, tensorboard=True)


def test_events_have_all_columns(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    written: dict[str, tuple[float, int]] = {}
    closed: list[bool] = []

    class Writer:
        def add_scalar(self, name: str, value: float, step: int) -> None:
            written[name] = value, step

        def flush(self) -> None:
            pass

        def close(self) -> None:
            closed.append(True)

    fake: Any = type(sys)("torch.utils.tensorboard")
    fake.SummaryWriter = lambda folder: Writer()
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", fake)
    monitor = Monitor(run, tensorboard=True)
    monitor.row({"step": 5, "lr": 0.1, "loss_largest": 2.0})
    speeds = {"images_per_s", "loader_images_per_s", "step_images_per_s"}
    assert written.keys() == {"step", "lr", "loss_largest"} | speeds
    assert written["loss_largest"] == (2.0, 5)
    monitor.close()
    assert closed == [True]
