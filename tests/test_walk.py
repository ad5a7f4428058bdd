"""The whole way from a folder of images to reports for two devices, by the commands that each step prints."""

import json
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from conftest import Nas, make_device, make_search_quick
from PIL import Image

from hw_profiles.connections.local import Local
from hw_profiles.device import Device
from hw_profiles.measuring.bundle import read_job
from hw_profiles.measuring.results import Results
from hw_profiles.store import ProfileStore
from nas.runs.files import EXPORTS, REPORT
from nas.runs.run_dir import RunDir
from search_spaces import Space

DEVICES = ("first", "second one")
YAML = """\
name: small
outputs: 5
channels: 3
resolutions: [8, 12]
divisor: 2
stem: {width: [2, 4]}
stages:
  - {width: [4, 6], depth: [1, 2], kernel: [3, 5], expand: [1, 2], stride: 2}
head: {width: [6, 8]}
"""


def write_images(root: Path, classes: int, mode: str) -> None:
    """Ten images of each class, of one colour or grey level and noise."""
    rng = np.random.default_rng(0)
    for c in range(classes):
        folder = root / f"class {c:03d}"
        folder.mkdir(parents=True)
        for i in range(10):
            pixels = rng.integers(0, 60, (16, 16, 3)) + c * 190 // classes
            Image.fromarray(pixels.astype(np.uint8)).convert(mode).save(folder / f"{i}.png")


def steps(text: str) -> list[list[str]]:
    """The commands that a step names as the next ones."""
    named = re.findall(r"next: (.*)", text)[-1]
    return [shlex.split(command)[1:] for command in named.split(", or ")]


def walk(nas: Nas, folder: Path, classes: int, mode: str, devices: Sequence[str] = DEVICES) -> None:
    write_images(folder / "images", classes, mode)
    channels = {"L": 1, "RGB": 3}[mode]
    (folder / "space.yaml").write_text(YAML.replace("channels: 3", f"channels: {channels}"))
    recipe = f"space: {folder}/space.yaml\nepochs: 1\ncompute: {{accelerator: cpu}}\n"
    (folder / "recipe.yaml").write_text(
        recipe + f"data: {{dataset: imagefolder, root: {folder}/images, batch_size: 8}}\n"
    )

    def done(*command: object) -> str:
        answer = nas(*command)
        assert answer.code == 0, f"{command}: {answer.err}"
        return answer.out

    run = folder / "my run"
    evaluate, profile = steps(done("train", "--config", folder / "recipe.yaml", "--out", run))
    assert RunDir(run).space().config.channels == channels
    done(*evaluate)
    for device in devices:
        (search,) = steps(done(*(device if part == "NAME" else part for part in profile), "--held-out", 8))
        searched = done(*search, "--budget", 10, "--predictor", "ridge")  # no more than at the start
        assert "no predictor was fitted" in searched
        (export,) = steps(searched)
        benchmark, report = steps(done(*export))
        done(*benchmark)
        done(*report)
    made = RunDir(run)
    assert made.searched() == sorted(devices)
    for device in devices:
        assert made.search(device).has(REPORT)
        models = list((run / EXPORTS / device).glob("*.onnx"))
        assert models
        for model in models:
            card = json.loads(model.with_suffix(".json").read_text(encoding="utf-8"))
            assert len(card["preprocess"]["mean"]) == channels
        done("report", run, "--device", device)


@pytest.mark.usefixtures("quick_search")
@pytest.mark.parametrize(
    ("classes", "mode"), [(3, "L"), *(pytest.param(n, "RGB", marks=pytest.mark.slow) for n in (10, 250))]
)
def test_the_way_through_all_commands(
    nas: Nas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, classes: int, mode: str
) -> None:
    def profile(space: Space, name: str, store: ProfileStore, **options: object) -> Device:
        device = make_device(space, name)
        store.save(device)
        return device

    def measure(self: Local, bundle: Path, progress: object) -> Results:
        job = read_job(bundle)
        return Results.of_tool(job, {model.id: [1.5] * 4 for model in job.models}, "quick", 0.0)

    monkeypatch.setattr("nas.devices.profiling.profile_device", profile)
    monkeypatch.setattr(Local, "measure", measure)
    walk(nas, tmp_path, classes, mode)


@pytest.mark.slow
@pytest.mark.usefixtures("quick_measuring")
def test_the_way_through_all_commands_measured(
    nas: Nas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_search_quick(monkeypatch, measured=False)
    walk(nas, tmp_path, 3, "RGB", DEVICES[1:])
