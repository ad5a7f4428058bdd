"""Which files of a folder are images, of which classes and splits."""

import os
import re
from pathlib import Path

import pytest

from nas.data import Split, SplitName, image_folder
from nas.data.catalog import get, get_for_imported
from nas.data.dataset import summary
from nas.runs.recorded_data import record

SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")


def touch(folder: Path, classes: str, count: int, suffix: str = ".png") -> None:
    """Class folders with files that nothing reads here."""
    for name in classes.split():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            (folder / name / f"{i:03}{suffix}").touch()


def names(split: Split, root: Path) -> set[str]:
    return set(image_folder.file_names(split, root))


def sizes(root: Path) -> list[int]:
    dataset = get("imagefolder", root)
    return [len(dataset.split(name)) for name in SPLITS]


def counted(root: Path, total: int) -> str:
    """Images of each split, as a summary says it."""
    found = sizes(root)
    assert sum(found) == total
    return " / ".join(map(str, found))


@pytest.mark.parametrize("validation", ["val", "valid", "Validation", "DEV"])
def test_three_split_folders_are_the_three_splits(tmp_path: Path, validation: str) -> None:
    counts = {"Train": 5, validation: 2, "test": 3}
    for folder, count in counts.items():
        touch(tmp_path / folder, "cat dog", count)
    dataset = get("imagefolder", tmp_path)
    assert summary(dataset, "2 classes") == "2 classes; 10 / 4 / 6 images (train / validation / test), RGB"
    for split, folder in zip(SPLITS, counts, strict=True):
        assert {name.split("/")[0] for name in names(dataset.split(split), tmp_path)} == {folder}
    imported = get_for_imported("imagefolder", tmp_path, 0, validation_images=3)
    assert [len(imported.split(name)) for name in SPLITS] == [10, 3, 6]  # 3 of the 4 of val, all of test


def test_train_and_test_hold_a_tenth_of_train_out(tmp_path: Path) -> None:
    touch(tmp_path / "training", "cat dog", 20)
    touch(tmp_path / "testing", "cat dog", 3)
    dataset = get("imagefolder", tmp_path)
    train, validation, test = (names(dataset.split(name), tmp_path) for name in SPLITS)
    assert len(train) + len(validation) == 40
    assert len(train) > 2 * len(validation) > 0
    assert not train & validation
    assert {name.split("/")[0] for name in test} == {"testing"}


def test_what_is_no_image_of_a_class_is_left_out_and_counted(tmp_path: Path) -> None:
    touch(tmp_path, "cat dog", 10)
    touch(tmp_path, ".git __MACOSX .ipynb_checkpoints @eaDir cat/.hidden", 3)
    touch(tmp_path, "cat", 4, ".txt")
    touch(tmp_path, "dog", 2, ".XML")
    for name in ("cat/._000.png", "cat/Thumbs.db", "dog/.DS_Store", "LICENSE", "cover.png"):
        (tmp_path / name).touch()
    dataset = get("imagefolder", tmp_path)
    assert dataset.output_names == ("cat", "dog")
    assert summary(dataset, "2 classes") == (
        f"2 classes; {counted(tmp_path, 20)} images (train / validation / test), RGB; left out: 4 .txt, "
        "2 .xml, 1 without suffix, 3 hidden files, 5 hidden folders, 1 image outside of class folders"
    )


def test_test_images_without_classes_are_left_out(tmp_path: Path) -> None:
    for folder in ("train", "val"):
        touch(tmp_path / folder, "cat dog", 10)
    touch(tmp_path, "test notes", 7)
    dataset = get("imagefolder", tmp_path)
    assert names(dataset.split("test"), tmp_path) == {
        f"val/{name}/{i:03}.png" for name in ("cat", "dog") for i in range(10)
    }
    assert summary(dataset, "2 classes").endswith("left out: the folders notes, test")


def test_links_are_followed_but_each_real_file_counts_once(tmp_path: Path) -> None:
    root, pool = tmp_path / "root", tmp_path / "pool"
    touch(root, "cat dog", 10)
    touch(pool, "more", 5)
    (root / "cat" / "itself").symlink_to(".")
    (root / "cat" / "parent").symlink_to(tmp_path)  # would lead to all of `pool` as cats
    (root / "cat" / "000b.png").symlink_to("000.png")
    os.link(root / "cat" / "001.png", root / "cat" / "001b.png")
    (root / "ant").symlink_to("dog")  # comes first in the order of names
    (root / "dog" / "more").symlink_to(pool / "more")
    (root / "dog" / "gone.png").symlink_to("nothing.png")
    (root / "dog" / "self").symlink_to("self")
    dataset = get("imagefolder", root)
    found = set.union(*(names(dataset.split(name), root) for name in SPLITS))
    assert dataset.output_names == ("cat", "dog")
    assert {name for name in found if name.startswith("cat")} == {f"cat/{i:03}.png" for i in range(10)}
    assert {name for name in found if name.startswith("dog/more")} == {
        f"dog/more/{i:03}.png" for i in range(5)
    }
    assert len(found) == 25
    assert summary(dataset, "2 classes").endswith("left out: 2 broken links, 5 repeated links")


def test_all_suffixes_that_pillow_reads_count_in_any_case(tmp_path: Path) -> None:
    for suffix in (".jpe", ".JFIF", ".gif", ".webp", ".tif", ".PNG", ".bmp", ".ppm"):
        touch(tmp_path, "cat dog", 1, suffix)
    touch(tmp_path, "cat dog", 1, ".eps")  # Pillow runs another program for it
    dataset = get("imagefolder", tmp_path)
    assert summary(dataset, "2 classes") == (
        f"2 classes; {counted(tmp_path, 16)} images (train / validation / test), RGB; left out: 2 .eps"
    )


def test_every_class_is_trained_on_however_few_images_it_has(tmp_path: Path) -> None:
    touch(tmp_path, "cat", 40)
    touch(tmp_path, "ant bee cow dog emu fox", 3)
    for seed in range(5):
        dataset = get("imagefolder", tmp_path, seed)
        assert set(dataset.split("train").targets) == set(range(7))


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        ("", "contains 0 images and no folders"),
        ("only", "at least 2 classes are needed, each a folder of images; got only the folder only"),
        ("cat dog cow:0", "each class folder must contain readable images, cow is empty"),
        ("cat dog:2", "each class needs at least 3 images, so that they can be split; too few: dog (2)"),
        ("train/cat train/dog", "it contains the folders train; the data root"),
        ("val/cat val/dog", "it contains the folders val; rename val if that is a class"),
        ("train/cat train/dog val", "and val without class folders"),
        ("train valid test", "and test, train, valid without class folders"),
        ("train/cat train/dog val/cat val/dog valid/cat", "of which two are for the same split"),
        ("train/cat train/dog val/cat val/cow", "same class folders, only one has cow, dog"),
        (
            "train/cat train/dog:1 val/cat val/dog",
            "at least 2 images, so that they can be split; too few: dog",
        ),
        ("photos/cat photos/dog", "instead of images; use the data root"),
        (
            "a/cat a/dog b/cat b/dog",
            "its folders a, b contains the folders cat, dog instead of images",
        ),
        ("cat/train cat/val dog/train dog/val", "put them one folder higher"),
        ("all/train/cat all/train/dog all/val/cat all/val/dog", "use the data root"),
    ],
)
def test_other_layouts_are_refused_with_what_was_seen(tmp_path: Path, folders: str, message: str) -> None:
    for folder in folders.split():
        name, _, count = folder.partition(":")
        touch(tmp_path, name, int(count or 5))
    with pytest.raises(ValueError, match=re.escape(message)) as refused:
        get("imagefolder", tmp_path)
    assert str(tmp_path) in str(refused.value)


@pytest.mark.parametrize(
    "folders",
    [
        "bus car train",  # a class that is called like a split
        "cat/2019 cat/2020 dog/2020",  # class folders may have folders
        "cat/images dog/images",
    ],
)
def test_layouts_that_only_look_unusual_are_understood(tmp_path: Path, folders: str) -> None:
    touch(tmp_path, folders, 5)
    classes = {name.split("/")[0] for name in folders.split()}
    assert get("imagefolder", tmp_path).output_names == tuple(sorted(classes))
    assert sum(sizes(tmp_path)) == 5 * len(folders.split())


def test_a_folder_is_needed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="imagefolder needs a data root"):
        get("imagefolder")
    with pytest.raises(ValueError, match=r"one folder of images per class, got .*missing"):
        get("imagefolder", tmp_path / "missing")


def test_a_relative_folder_is_recorded_like_an_absolute_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path / "images", "cat dog", 5)
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    root = Path("../images")
    relative, absolute = (record("imagefolder", get("imagefolder", r), r) for r in (root, root.resolve()))
    assert relative == absolute
    assert {file.file.split("/")[0] for file in relative.files} == {"cat", "dog"}
