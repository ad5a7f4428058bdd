"""A run works with the data that it was made with, and with no others."""

import importlib
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY_YAML
from PIL import Image

from nas.data import data_record
from nas.data.dataset import SplitName
from nas.data.image_folder import file_names
from nas.evaluation.trained_run import TrainedRun
from nas.recipes.recipe import Recipe
from nas.recipes.recipe import load as load_recipe
from nas.runs.files import FILES, RECIPE
from nas.runs.recorded_data import check_outside, open_data
from nas.runs.run_dir import RunDir
from nas.training.finetune import finetune
from nas.training.train import train

SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")
CLASSES, IMAGES = ("ant", "bee", "cat"), 12


def write_images(root: Path, classes: tuple[str, ...] = CLASSES, n: int = IMAGES) -> Path:
    rng = np.random.default_rng(0)
    for name in classes:
        (root / name).mkdir(parents=True)
        for i in range(n):
            image = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
            image.save(root / name / f"{name}{i:02}.bmp")  # all of one size in bytes
    return root


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images, a recipe and a run that was trained on them."""
    folder = tmp_path_factory.mktemp("made")
    write_images(folder / "images")
    (folder / "tiny.yaml").write_text(TINY_YAML)
    train(recipe_in(folder), folder / "run")
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A copy of it; the run recorded where the images were, so the copy needs `data_root`."""
    return shutil.copytree(made, tmp_path / "copy")


def recipe_in(folder: Path, **changes: object) -> Recipe:
    values = {
        "space": str(folder / "tiny.yaml"),
        "epochs": 1,
        "data": {"dataset": "imagefolder", "root": str(folder / "images"), "batch_size": 8} | changes,
        "compute": {"accelerator": "cpu"},
    }
    return Recipe.model_validate(values)


def opened(folder: Path) -> TrainedRun:
    return TrainedRun.open(folder / "run", data_root=folder / "images")


def files(run: TrainedRun, root: Path) -> dict[str, list[str]]:
    return {name: file_names(run.dataset.split(name), root) for name in SPLITS}


def test_added_images_are_ignored_with_one_notice(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = folder / "images"
    before = files(opened(folder), root)
    assert sum(map(len, before.values())) == len(CLASSES) * IMAGES
    (first,) = opened(folder).evaluator()([opened(folder).space.smallest], "evaluate")
    write_images(root / "dog", ("x", "y"), 2)
    shutil.copy(root / "ant" / "ant00.bmp", root / "ant" / "aaa.bmp")
    shutil.copy(root / "ant" / "ant00.bmp", root / "unlabelled.bmp")  # in no class folder: never counted
    caplog.clear()
    caplog.set_level("INFO", logger="nas")
    run = opened(folder)
    assert caplog.messages == [f"5 images in {root} are not part of the run and are ignored"]
    assert files(run, root) == before
    assert run.dataset.output_names == CLASSES
    (folder / "run" / "archive.sqlite").unlink()
    assert run.evaluator()([run.space.smallest], "evaluate") == [first]


def test_missing_and_changed_images_are_named(folder: Path) -> None:
    root = folder / "images"
    for i in range(11):
        (root / "bee" / f"bee{i:02}.bmp").unlink()
    path = root / "cat" / "cat03.bmp"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1  # one pixel; name and size stay
    path.write_bytes(content)
    shutil.copy(root / "ant" / "ant00.bmp", root / "ant" / "ant01.bmp")
    with pytest.raises(
        ValueError, match=r"11 of 36 are missing \(bee/.* and 1 more\) and 2 of 36 have"
    ) as caught:
        opened(folder)
    assert str(caught.value).count(".bmp") == 12
    assert "cat/cat03.bmp" in str(caught.value)
    assert "\n" not in str(caught.value)
    recipe = load_recipe(folder / "run" / RECIPE, [f"data.root={root}"])
    with pytest.raises(ValueError, match="11 of 36 are missing"):
        train(recipe, folder / "run", resume=True)


def test_images_may_move_and_be_written_again(folder: Path) -> None:
    before = files(opened(folder), folder / "images")
    moved = (folder / "images").rename(folder / "moved")
    for path in moved.rglob("*.bmp"):
        os.utime(path, (1, 1))
    with pytest.raises(ValueError, match=r"are not in .*images; give their folder with --data-root"):
        opened(folder)
    run = TrainedRun.open(folder / "run", data_root=moved)
    assert files(run, moved) == before
    assert run.info.data_root is not None
    assert Path(run.info.data_root).is_absolute()


def test_damaged_record_is_refused(folder: Path) -> None:
    record = folder / "run" / FILES
    lines = record.read_text().splitlines()
    for damage, message in (
        (lines[:-1], "must be unchanged since the run was made"),
        (["a,b", *lines[1:]], "its columns must be split,file,label"),
        ([*lines, "trian,a,0,1,1,"], "a split must be one of train, validation, test, got 'trian'"),
        ([*lines, "a,b"], "cannot read .*the record of the run's files"),
    ):
        record.write_text("\n".join(damage) + "\n")
        with pytest.raises(ValueError, match=message):
            opened(folder)


def test_large_data_sets_are_compared_by_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_record, "MAX_HASHED", 20)
    root = write_images(tmp_path / "images")
    (tmp_path / "tiny.yaml").write_text(TINY_YAML)
    run = train(recipe_in(tmp_path), tmp_path / "run")
    shutil.copy(root / "ant" / "ant00.bmp", root / "ant" / "ant01.bmp")
    open_data(run)
    (root / "ant" / "ant01.bmp").write_bytes(b"")
    with pytest.raises(ValueError, match=r"1 of 36 have changed \(ant/ant01\.bmp\)"):
        open_data(run)


@pytest.mark.parametrize("size", [0, 10, data_record.WHOLE_BYTES, data_record.WHOLE_BYTES + 1, 2**21])
def test_digest_depends_on_both_ends(tmp_path: Path, size: int) -> None:
    path = tmp_path / "file"
    content = bytearray(size)
    found = set()
    for place in (None, *({0, size // 2, size - 1} if size else ())):
        changed = bytearray(content)
        if place is not None:
            changed[place] = 1
        path.write_bytes(changed)
        found.add(data_record.digest(path))
    assert len(found) == (4 if size else 1)


def test_file_names_may_be_any_text(tmp_path: Path) -> None:
    names = ["12e3.png", 'a "quoted", name.png', "two\nlines.png", os.fsdecode(b"\xff\xfe.png"), "é.png"]
    records = [data_record.FileRecord("train", name, 1, 2, 3, "0012") for name in names]
    (tmp_path / FILES).write_bytes(data_record.to_csv(records))
    assert data_record.read_csv(tmp_path / FILES) == records


def test_finetuning_keeps_every_image_in_its_split(folder: Path, tmp_path: Path) -> None:
    root = folder / "images"
    source = train(recipe_in(folder), tmp_path / "source").path
    before = files(TrainedRun.open(source), root)
    write_images(root / "more", ("x",), 5)
    tuned = finetune(source, TrainedRun.open(source).space.smallest, recipe_in(folder), tmp_path / "tuned")
    assert files(TrainedRun.open(tuned.path), root) == before


SOURCE = """
from dataclasses import replace
from nas.data.dataset import ImageDataset, Split
from nas.data.digits import load

changed = None


class Lazy(list):
    pass


def images(root, split_seed):
    data = load(root, split_seed)
    splits = dict(data.splits)
    if changed == "pixel":
        pixels = splits["validation"].images.copy()
        pixels[-1, 0, 0] ^= 1
        splits["validation"] = Split(pixels, splits["validation"].targets)
    elif changed == "label":
        labels = splits["test"].targets.copy()
        labels[0] = (labels[0] + 1) % 10
        splits["test"] = Split(splits["test"].images, labels)
    elif changed == "split":
        splits["train"] = Split(splits["train"].images[1:], splits["train"].targets[1:])
    return replace(data, splits=splits)


def lazy(root, split_seed):
    data = images(root, split_seed)
    splits = {name: Split(Lazy(split.images), split.targets) for name, split in data.splits.items()}
    return replace(data, splits=splits)
"""


@pytest.mark.parametrize("name", ["images", "lazy"])
def test_a_users_data_set_must_stay_the_same(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "recorded_images.py").write_text(SOURCE)
    (tmp_path / "tiny.yaml").write_text(TINY_YAML)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    importlib.invalidate_caches()
    try:
        recipe = recipe_in(tmp_path, dataset=f"recorded_images:{name}", root=None, batch_size=512)
        run = RunDir(train(recipe, tmp_path / "run").path)
        open_data(run, allow_import=True)
        module = sys.modules["recorded_images"]
        for change in ("pixel", "label", "split"):
            monkeypatch.setattr(module, "changed", change)
            with pytest.raises(ValueError, match=f"images, labels and splits of the data set '.*:{name}'"):
                open_data(run, allow_import=True)
        with pytest.raises(ValueError, match="images, labels and splits"):
            train(recipe, tmp_path / "run", resume=True)
    finally:
        sys.modules.pop("recorded_images", None)


@pytest.mark.parametrize(
    ("dataset", "channels", "wanted"),
    [("imagefolder", 1, 1), ("imagefolder", 3, 3), ("imagefolder-grey", 3, 1)],
)
def test_a_space_of_one_channel_or_the_data_set_asks_for_grey(
    dataset: str, channels: int, wanted: int, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="nas")
    (folder / "tiny.yaml").write_text(TINY_YAML.replace("channels: 1", f"channels: {channels}"))
    out = folder / "other"
    train(recipe_in(folder, dataset=dataset), out)
    assert {1: ", grey", 3: ", RGB"}[wanted] in caplog.text
    train(recipe_in(folder, dataset=dataset), out, resume=True)
    run = TrainedRun.open(out)
    assert run.info.dataset == {1: "imagefolder-grey", 3: "imagefolder"}[wanted]
    assert run.space.config.channels == run.dataset.preprocess.channels == wanted


def test_grey_folders_are_read_as_grey(folder: Path) -> None:
    root = folder / "images"
    run = opened(folder)  # its space has one channel
    image = run.dataset.split("validation").images[0]
    assert image.mode == "L"  # type: ignore[union-attr]
    expected = Image.open(root / files(run, root)["validation"][0]).convert("L")
    np.testing.assert_array_equal(np.asarray(image), np.asarray(expected))


def test_run_inside_of_its_images_is_refused(folder: Path) -> None:
    root = folder / "images"
    with pytest.raises(ValueError, match="must be outside of the data root"):
        train(recipe_in(folder), root / "run")
    assert not (root / "run").exists()
    for name, data_root in (("cifar10", root), ("imagefolder", None), ("imagefolder", root / "ant")):
        check_outside(name, data_root, root / "run")  # no class folder can be mistaken for the run


def test_of_split_folders_only_images_in_classes_count_as_added(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for split in ("train", "val"):
        shutil.copytree(folder / "images", folder / "split" / split)
    root = folder / "split"
    out = train(recipe_in(folder, root=str(root)), folder / "other")
    image = root / "val" / "ant" / "ant00.bmp"
    (root / "test").mkdir()
    for name in ("test/a.bmp", "a.bmp", "train/a.bmp"):  # labelled by no folder
        shutil.copy(image, root / name)
    shutil.copytree(root / "val", root / "more" / "val")  # of no split
    caplog.set_level("INFO", logger="nas")
    caplog.clear()
    open_data(out)
    assert caplog.messages == []
    shutil.copy(image, root / "train" / "ant" / "a.bmp")
    open_data(out)
    assert caplog.messages == [f"1 image in {root} is not part of the run and is ignored"]
