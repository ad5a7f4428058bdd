"""`nas pick`: what it names, where each number comes from, and how little it loads."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import MEASURED, make_device

from hw_profiles.device import Device
from hw_profiles.latency_models.robust_regression import Affine
from hw_profiles.store import ProfileStore
from nas.cli.pick import pick as pick_command
from nas.evaluation.trained_run import TrainedRun
from nas.runs.files import SURROGATE
from nas.search.known_front import known_front
from nas.search.stored_surrogate import StoredSurrogate
from search_spaces import Arch

CALIBRATION = "default:512:seed0"
"""Of the search; the judgement of its predictor has another one."""


def other_device(trained: TrainedRun) -> Device:
    """A device on which every network takes three times as long."""
    device = make_device(trained.space, name="pi4")
    slower = device.profile.model_copy(update={"calibration": Affine(slope=3.0, intercept_ms=0.1)})
    return replace(device, profile=slower)


# ---------------------------------------------------------------------- what is named


def test_every_number_has_a_source(searched: TrainedRun) -> None:
    device, space = make_device(searched.space), searched.space
    front, minimised = known_front(searched.run, device)
    archs = front["arch"].tolist()
    archive = searched.archive.frame("validation", CALIBRATION).set_index("arch_id")["cross_entropy"]
    surrogate = searched.run.search().read_model(SURROGATE, StoredSurrogate).metrics["cross_entropy"]
    predicted = surrogate.table(space)(space.encode(archs))
    for i, row in front.iterrows():
        known = row["metrics_are"] == "measured"
        assert row["cross_entropy"] == (archive[row["arch_id"]] if known else predicted[int(str(i))])
        counted = row["cross_entropy"] + (0 if known else surrogate.rmse)
        assert minimised[int(str(i)), 0] == pytest.approx(counted)
    np.testing.assert_allclose(front["latency_ms"], device.table.predict(space.encode(archs), space))
    measured = front["latency_is"] == "measured"
    assert measured.any()
    np.testing.assert_allclose(
        front["measured_latency_ms"][measured], MEASURED * front["latency_ms"][measured]
    )
    assert front["measured_latency_ms"][~measured].isna().all()


def test_no_known_subnet_beats_what_is_named(searched: TrainedRun) -> None:
    device, space = other_device(searched), searched.space
    front, minimised = known_front(searched.run, device)
    assert (front["latency_is"] == "table").all()  # the search measured on another device
    archive = searched.archive.frame("validation", CALIBRATION)
    latency = device.table.predict(space.encode(archive["arch"]), space)
    for loss, ms in zip(archive["cross_entropy"], latency, strict=True):
        assert ((minimised[:, 0] <= loss) & (minimised[:, 1] <= ms)).any()


def test_a_promising_prediction_is_named_as_such(searched: TrainedRun) -> None:
    """A surrogate without error that likes what was never measured."""
    stored = searched.run.search().read_model(SURROGATE, StoredSurrogate)
    sure = stored.metrics["cross_entropy"].model_copy(update={"rmse": 0.0, "offset": -100.0})
    searched.run.search().write_json(SURROGATE, StoredSurrogate(n_train=9, metrics={"cross_entropy": sure}))
    front, _ = known_front(searched.run, make_device(searched.space))
    assert (front["metrics_are"] == "predicted").all()


def test_limits_are_satisfied(searched: TrainedRun) -> None:
    device = make_device(searched.space)
    everything, _ = known_front(searched.run, device)
    limit = float(everything["latency_ms"].median())
    front, _ = known_front(searched.run, device, maxima=[f"latency_ms={limit}"])
    assert front["keeps_limits"].all()
    assert (front["latency_ms"] <= limit).all()
    assert len(front) == (everything["latency_ms"] <= limit).sum()


def test_message_of_an_impossible_limit_names_it_and_the_closest_subnet(searched: TrainedRun) -> None:
    device, space = make_device(searched.space), searched.space
    least = device.table.predict(space.encode([space.smallest]), space)[0]
    with pytest.raises(ValueError, match=rf"latency_ms = {least:.6g} and misses latency_ms <= 1e-06"):
        known_front(searched.run, device, maxima=["latency_ms=1e-6"])
    with pytest.raises(ValueError, match=r"misses accuracy >= 1\.5; give wider limits"):
        known_front(searched.run, device, maxima=["latency_ms=100"], minima=["accuracy=1.5"])


def test_a_run_without_a_search_is_refused(trained: TrainedRun) -> None:
    with pytest.raises(ValueError, match=r"was not searched yet; run `nas search .* --device NAME`"):
        known_front(trained.run, make_device(trained.space))


# ---------------------------------------------------------------------- the command


def test_command_prints_one_subnet_and_finds_the_runs_own_copy_of_a_device(
    searched: TrainedRun, capsys: pytest.CaptureFixture[str]
) -> None:
    pick_command(searched.run.path, "desk", as_json=True)
    (row,) = json.loads(capsys.readouterr().out)
    front, minimised = known_front(searched.run, make_device(searched.space))
    assert row["arch_id"] == front["arch_id"][minimised[:, 0].argmin()]
    assert Arch.from_json(row["arch"]).id == row["arch_id"]


def test_command_takes_any_device_of_the_store(
    searched: TrainedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ProfileStore(tmp_path / "profiles").save(other_device(searched))
    pick_command(searched.run.path, "pi4", profiles=tmp_path / "profiles", how="all")
    assert "table" in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"no profile of the device 'watch'"):
        pick_command(searched.run.path, "watch", profiles=tmp_path / "profiles")


def test_nothing_heavy_is_imported() -> None:
    code = (
        "import sys, nas.cli.main, nas.search.known_front, nas.search.select, hw_profiles.store\n"
        "print([m for m in ('torch', 'sklearn', 'scipy', 'pymoo', 'onnx', 'plotly') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
