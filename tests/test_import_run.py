"""Runs of imported weights: records, splits and commands."""

import hashlib
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import published
import pytest
import torch
from conftest import make_search_quick
from PIL import Image

import search_spaces
from nas.cli.main import main
from nas.data import image_folder
from nas.data.data_record import read_csv
from nas.evaluation.trained_run import TrainedRun
from nas.importing.import_run import import_run, read_classes
from nas.report.final_test import final_test
from nas.runs.files import EXPORTS, FILES, FRONT, SPACE
from nas.runs.run_dir import RunDir
from nas.torch_backend.supernet import Supernet
from search_spaces import Space

SMALL = """\
name: small
outputs: 3
channels: 3
resolutions: [8, 12]
stem: {width: [8]}
stages:
  - {width: [8, 16], depth: [1, 2], expand: [2], stride: 2}
head: {width: [16]}
"""


@pytest.fixture
def space() -> Space:
    return search_spaces.parse(SMALL)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    file = tmp_path / "weights.pt"
    file.write_bytes(b"as it was downloaded")
    return file


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Images in ImageNet's layout: 3 classes, 4 images each in train, 6 in val."""
    return write_images(tmp_path / "images", classes=3, train=4, val=6)


def write_images(root: Path, *, classes: int, train: int, val: int, side: int = 16) -> Path:
    rng = np.random.default_rng(0)
    for split, n in (("train", train), ("val", val)):
        for c in range(classes):
            folder = root / split / f"n{c:08d}"
            folder.mkdir(parents=True)
            for i in range(n):
                pixels = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.png")
    return root


def make(space: Space, out: Path, checkpoint: Path, root: Path | None, split_seed: int = 0) -> RunDir:
    return import_run(
        Supernet(space), out, source="ofa", checkpoint=checkpoint, data_root=root, split_seed=split_seed
    )


# ---------------------------------------------------------------------- the run


def test_run_has_the_weights_and_their_source(
    space: Space, tmp_path: Path, checkpoint: Path, root: Path
) -> None:
    supernet = Supernet(space, seed=5)
    out = tmp_path / "run"
    import_run(supernet, out, source="ofa", checkpoint=checkpoint, data_root=root)
    trained = TrainedRun.open(out)
    for name, tensor in trained.supernet.state_dict().items():
        assert torch.equal(tensor, supernet.state_dict()[name])
    imported = trained.info.imported
    assert imported is not None
    assert (imported.source, imported.checkpoint) == ("ofa", "weights.pt")
    assert imported.sha256 == hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert trained.info.output_names == ["n00000000", "n00000001", "n00000002"]


def test_run_records_missing_running_statistics(space: Space, tmp_path: Path, checkpoint: Path) -> None:
    supernet = Supernet(space)
    for calibrated in (False, True):
        out = tmp_path / f"run{calibrated}"
        run = import_run(supernet, out, source="ofa", checkpoint=checkpoint)
        imported = run.info().imported
        assert imported is not None
        assert imported.calibrated == calibrated
        assert ("uncalibrated" in imported.note) != calibrated
        supernet.get_buffer("stem.conv.norm.running_mean")[0] = 0.5


def validation_files(run: RunDir) -> list[str]:
    return [record.file for record in read_csv(run.file(FILES)) if record.split == "validation"]


def test_search_and_report_use_different_images_of_val(
    space: Space, tmp_path: Path, checkpoint: Path, root: Path
) -> None:
    run = make(space, tmp_path / "run", checkpoint, root)
    listed = validation_files(run)
    assert len(listed) == len(set(listed)) == 9  # half of val, 3 of each class
    dataset = TrainedRun.open(run.path).dataset
    assert image_folder.file_names(dataset.split("validation"), root) == listed
    reported = image_folder.file_names(dataset.split("test"), root)
    everything = {path.relative_to(root).as_posix() for path in (root / "val").rglob("*.png")}
    assert set(listed) | set(reported) == everything
    assert not set(listed) & set(reported)
    assert all(name.startswith("train/") for name in image_folder.file_names(dataset.split("train"), root))


def test_folder_of_images_can_be_specified_later(
    space: Space, tmp_path: Path, checkpoint: Path, root: Path
) -> None:
    run = make(space, tmp_path / "run", checkpoint, None)
    assert not run.has(FILES)
    with pytest.raises(ValueError, match="imagefolder needs a data root"):
        TrainedRun.open(run.path)
    damaged = root / "val" / "n00000001" / "5.png"
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:60])
    with pytest.raises(ValueError, match=r"1 of 30 images cannot be read, .*val/n00000001/5\.png"):
        TrainedRun.open(run.path, data_root=root)
    assert not run.has(FILES)
    damaged.write_bytes(whole)
    TrainedRun.open(run.path, data_root=root)
    assert len(validation_files(run)) == 9


def test_mismatch_with_the_images_is_an_error(tmp_path: Path, checkpoint: Path, root: Path) -> None:
    grey = search_spaces.parse(SMALL.replace("channels: 3", "channels: 1"))
    with pytest.raises(ValueError, match="weights have 1 input channel, but the images of the data"):
        make(grey, tmp_path / "run", checkpoint, root)
    with pytest.raises(ValueError, match="must be outside of the data root"):
        make(search_spaces.parse(SMALL), root / "run", checkpoint, root)
    assert not (tmp_path / "run").exists()
    assert not (root / "run").exists()


def test_images_can_move_but_not_change(space: Space, tmp_path: Path, checkpoint: Path, root: Path) -> None:
    run = make(space, tmp_path / "run", checkpoint, root)
    moved = root.rename(tmp_path / "moved")
    TrainedRun.open(run.path, data_root=moved)
    (moved / "val" / "n00000001" / "5.png").unlink()
    with pytest.raises(ValueError, match=r"1 of 30 are missing \(val/n00000001/5\.png\); restore"):
        TrainedRun.open(run.path, data_root=moved)


def test_split_depends_on_the_seed(space: Space, tmp_path: Path, checkpoint: Path, root: Path) -> None:
    lists = [
        validation_files(make(space, tmp_path / f"run{i}", checkpoint, root, split_seed=seed))
        for i, seed in enumerate((0, 0, 1))
    ]
    assert lists[0] == lists[1] != lists[2]


@pytest.mark.parametrize("classes", [2, 4])
def test_number_of_classes_must_equal_the_number_of_outputs(
    classes: int, space: Space, tmp_path: Path, checkpoint: Path
) -> None:
    images = write_images(tmp_path / "images", classes=classes, train=1, val=2)
    message = rf"weights have 3 outputs, but the data set has {classes} classes; .*--classes FILE"
    with pytest.raises(ValueError, match=message):
        make(space, tmp_path / "run", checkpoint, images)
    assert not (tmp_path / "run").exists()
    run = make(space, tmp_path / "run", checkpoint, None)
    with pytest.raises(ValueError, match=message):
        TrainedRun.open(run.path, data_root=images)


@pytest.mark.parametrize("at_import", [True, False], ids=["with images", "before any images"])
def test_images_of_some_classes_with_a_list_of_all(
    at_import: bool, space: Space, tmp_path: Path, checkpoint: Path
) -> None:
    images = write_images(tmp_path / "images", classes=2, train=1, val=2)
    classes = ["n00000001", "n00000007", "n00000000"]
    run = import_run(
        Supernet(space),
        tmp_path / "run",
        source="ofa",
        checkpoint=checkpoint,
        data_root=images if at_import else None,
        classes=classes,
    )
    dataset = TrainedRun.open(run.path, data_root=images).dataset
    assert list(dataset.output_names) == run.info().output_names == classes
    names = image_folder.file_names(dataset.split("train"), images)
    assert dict(zip(names, dataset.split("train").targets, strict=True)) == {
        "train/n00000000/0.png": 2,
        "train/n00000001/0.png": 0,
    }


def test_class_list_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "classes.txt"
    file.write_text("n01440764 tench, Tinca tinca\n\nn01443537\n")
    assert read_classes(file) == ["n01440764", "n01443537"]
    file.write_text("cat\ndog\ncat\n")
    with pytest.raises(ValueError, match="must have each class once, got several lines of cat"):
        read_classes(file)
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="line 1: the text must be UTF-8"):
        read_classes(file)
    with pytest.raises(ValueError, match="cannot read the class list"):
        read_classes(tmp_path / "none.txt")


def test_number_of_validation_images(space: Space, tmp_path: Path, checkpoint: Path, root: Path) -> None:
    run = import_run(
        Supernet(space),
        tmp_path / "run",
        source="ofa",
        checkpoint=checkpoint,
        data_root=root,
        validation_images=6,
    )
    assert len(validation_files(run)) == 6
    dataset = TrainedRun.open(run.path).dataset
    assert [len(dataset.split(name)) for name in ("train", "validation", "test")] == [12, 6, 12]


def test_subset_of_the_resolutions(space: Space, tmp_path: Path, checkpoint: Path) -> None:
    run = import_run(
        Supernet(space), tmp_path / "run", source="ofa", checkpoint=checkpoint, resolutions=[12, 12]
    )
    assert run.space().resolutions == (12,)
    assert run.space().n_subnets == space.n_subnets // 2
    with pytest.raises(ValueError, match="resolutions must be some of 8 12 in the space 'small', got 10"):
        import_run(
            Supernet(space), tmp_path / "no", source="ofa", checkpoint=checkpoint, resolutions=[12, 10]
        )
    assert not (tmp_path / "no").exists()


def test_run_can_be_evaluated(space: Space, tmp_path: Path, checkpoint: Path, root: Path) -> None:
    trained = TrainedRun.open(make(space, tmp_path / "run", checkpoint, root).path)
    (metrics,) = trained.evaluator()([space.largest], "evaluate")
    assert np.isfinite(metrics["cross_entropy"])
    assert round(metrics["top1"] * 9, 6) == round(metrics["top1"] * 9)  # of the nine images of the list
    report = final_test(trained)
    assert {"largest", "smallest", "random"} == set(report["group"])


def test_folder_with_other_files_does_not_change(
    space: Space, tmp_path: Path, checkpoint: Path, root: Path
) -> None:
    make(space, tmp_path / "run", checkpoint, root)
    with pytest.raises(ValueError, match="must be missing or empty"):
        make(space, tmp_path / "run", checkpoint, root)


# ---------------------------------------------------------------------- commands


def nas(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    """Run a command; returns its exit code."""
    monkeypatch.setattr(sys, "argv", ["nas", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ofa", "none.pt", "--space", "ofa-mbv3-w1.0"], "cannot read the checkpoint none.pt"),
        (["attentivenas", "none.pt"], "cannot read the checkpoint none.pt"),
        (["ofa", "none.pt", "--space", "digits"], "the space of a checkpoint of ofa must be one of"),
        (["timm", "none.pt", "--space", "deit-tiny"], "cannot read the checkpoint none.pt"),
        (
            ["prenas", "none.pt", "--space", "digits"],
            "the space of a checkpoint of prenas must be of the fam",
        ),
    ],
)
def test_wrong_input_gives_one_line_of_error(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert nas(monkeypatch, "import", *arguments, "--out", tmp_path / "run") == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_import_and_describe_print_a_note_about_uncalibrated_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    state = published.attentivenas_state(trained_statistics=False)
    file = published.save(tmp_path / "attentive.pt", state)
    assert nas(monkeypatch, "import", "attentivenas", file, "--out", tmp_path / "run") == 0
    imported = capsys.readouterr().out
    assert nas(monkeypatch, "describe", tmp_path / "run") == 0
    described = capsys.readouterr().out
    for output in (imported, described):
        assert "attentive.pt; train/ may contain their training images; uncalibrated" in output
    assert nas(monkeypatch, "describe", tmp_path / "run", "--json") == 0
    assert json.loads(capsys.readouterr().out)["imported"]["calibrated"] is False


def test_describe_prints_codes_and_networks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert nas(monkeypatch, "describe", "ofa-resnet50") == 0
    output = capsys.readouterr().out
    assert "1.639e+12 subnets" in output
    assert "2.459e+12 codes" in output


STATES: dict[str, Callable[[], published.State]] = {
    "ofa-mbv3-w1.0": partial(published.ofa_state, "ofa-mbv3-w1.0"),
    "ofa-resnet50": published.resnet_state,
    "attentivenas": published.attentivenas_state,
}


def imported(monkeypatch: pytest.MonkeyPatch, folder: Path, name: str, resolution: int) -> Path:
    """The run that `nas import` creates from a published supernet."""
    file = published.save(folder / "weights.pt", STATES[name]())
    root = write_images(folder / "images", classes=2, train=2, val=4, side=64)
    classes = folder / "classes.txt"
    classes.write_text("\n".join(f"n{i:08d}" for i in range(1000)))
    tool: list[str | Path] = (
        ["attentivenas", file] if name == "attentivenas" else ["ofa", file, "--space", name]
    )
    data: list[str | Path] = ["--data-root", root, "--classes", classes, "--resolution", str(resolution)]
    assert nas(monkeypatch, "import", *tool, "--out", folder / "run", *data) == 0
    return folder / "run"


@pytest.mark.slow
@pytest.mark.parametrize(("name", "resolution"), [("ofa-resnet50", 128), ("attentivenas", 192)])
def test_imported_supernet_can_be_evaluated_and_exported(
    name: str, resolution: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = imported(monkeypatch, tmp_path, name, resolution)
    assert nas(monkeypatch, "evaluate", run, "--arch", "smallest", "--calibration", "ofa") == 0
    assert nas(monkeypatch, "export", run, "--arch", "smallest") == 0
    assert len(list((run / EXPORTS).rglob("*.onnx"))) == 1


@pytest.mark.slow
@pytest.mark.usefixtures("quick_measuring")
def test_imported_supernet_can_be_searched_exported_and_benchmarked_on_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_search_quick(monkeypatch, measured=False)
    run = imported(monkeypatch, tmp_path, "ofa-mbv3-w1.0", 128)
    device: list[str | Path] = ["--device", "desk", "--profiles", tmp_path / "profiles"]
    commands: list[list[str | Path]] = [
        ["profile", run / SPACE, *device, "--held-out", "8"],
        ["evaluate", run, "--arch", "smallest", "--calibration", "ofa"],
        ["search", run, *device, "--budget", "10", "--predictor", "ridge"],
        ["export", run, "--pick", "first"],
    ]
    for command in commands:
        assert nas(monkeypatch, *command) == 0, capsys.readouterr().err
    assert (RunDir.open(run).search().read_csv(FRONT)["measured_latency_ms"] > 0).all()
    (model,) = (run / EXPORTS / "desk").glob("*.onnx")
    capsys.readouterr()
    assert nas(monkeypatch, "benchmark", model, "--json") == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["device"] == "desk"
    assert row["latency_ms"] > 0
    assert row["predicted_latency_ms"] > 0
