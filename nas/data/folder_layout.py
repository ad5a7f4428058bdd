"""Layouts of image folders: one folder per class, optionally inside one folder per split."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from nas.data.dataset import SplitName
from nas.data.image_scan import Scan, plural, scan, suffix, visible_folders
from search_spaces.errors import first_names

SPLIT_FOLDERS: Mapping[SplitName, tuple[str, ...]] = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
"""Names, in lower case, of folders that contain the class folders of a split."""
RULE = (
    "must contain one folder of images per class, or the folders train and val or test (or both) with one "
    "folder of images per class in each"
)

Classes = Mapping[str, list[str]]
"""Files of each class, relative to the root of the layout."""


@dataclass(frozen=True)
class Layout:
    """Image files by split and class."""

    classes: Classes
    """Files of all classes, if there are no split folders."""
    splits: Mapping[SplitName, Classes]
    """Files of all classes, for each split folder."""
    left_out: str
    """Description of the files that were left out, such as `40 .txt, 1 hidden folder`."""


def read_layout(root: Path) -> Layout:
    """Find the images of each class.

    Raises:
        ValueError: the layout does not satisfy `RULE`.
    """
    splits = _split_folders(root)
    folders = visible_folders(root)
    files = scan(root, sorted(splits.values()) if splits else folders)
    classes = {} if splits else _classes(root, "", files)
    by_split = {split: _classes(root, folder, files) for split, folder in splits.items()}
    labelled = sum(len(names) for group in (classes, *by_split.values()) for names in group.values())
    if labelled < len(files.images):
        files.skipped["image outside of class folders"] = len(files.images) - labelled
    others = sorted(set(folders) - set(splits.values())) if splits else []
    left_out = [files.left_out(), f"the folders {first_names(others)}" if others else ""]
    return Layout(classes, by_split, ", ".join(filter(None, left_out)))


def _split_folders(root: Path) -> Mapping[SplitName, str]:
    """The folder of each split; empty if the folders are classes."""
    folders = visible_folders(root)
    roles = {
        name: split for name in folders for split, names in SPLIT_FOLDERS.items() if name.lower() in names
    }
    filled = [name for name in roles if visible_folders(root / name)]
    if not roles or (len(roles) == 1 < len(folders) and not filled):
        return {}  # a single folder named like a split, without subfolders, is a class
    splits = {split: name for split in SPLIT_FOLDERS for name in filled if roles[name] == split}
    contents = f"it contains the folders {first_names(folders)}"
    flat = [name for name in roles if name not in filled and (roles[name] != "test" or not filled)]
    if flat:
        raise ValueError(f"{root} {RULE}; {contents}, and {first_names(flat)} without class folders")
    if len(splits) < len(filled):
        raise ValueError(f"{root} {RULE}; {contents}, of which two are for the same split")
    if list(splits) == ["train"]:
        train = root / splits["train"]
        raise ValueError(
            f"{root} {RULE}; {contents}; the data root {train} would split the images of {train.name}"
        )
    if "train" not in splits:
        raise ValueError(f"{root} {RULE}; {contents}; rename {first_names(filled)} if that is a class")
    return splits


def _classes(root: Path, folder: str, files: Scan) -> Classes:
    """Files of each class folder in `folder`, which is the root or a split folder."""
    start = f"{folder}/" if folder else ""
    below = {name[len(start) :] for name in files.folders if name.startswith(start)}
    names = sorted(name for name in below if name and "/" not in name)
    images = [name for name in files.images if name.startswith(start)]
    where = root / folder
    if not names:
        raise ValueError(f"{where} {RULE}; it contains {_description(images, files)}")
    classes: dict[str, list[str]] = {name: [] for name in names}
    for image in images:
        name, slash, _ = image[len(start) :].partition("/")
        if slash:
            classes[name].append(image)
    empty = [name for name, names_of_class in classes.items() if not names_of_class]
    if empty:
        raise ValueError(
            f"{where}: each class folder must contain readable images, {first_names(empty)} "
            f"{_contents(files, {start + name for name in empty})}; add images or remove the folder"
        )
    _check_depth(where, classes, below, start)
    return {
        name: sorted(paths, key=lambda path: path.rpartition("/")[::2]) for name, paths in classes.items()
    }


def _description(images: Collection[str], files: Scan) -> str:
    left_out = files.left_out()
    return f"{plural(len(images), 'image')} and no folders" + (f"; left out: {left_out}" if left_out else "")


def _contents(files: Scan, folders: Collection[str]) -> str:
    """Description of the files in folders without images."""
    inside = [name for name in files.others if any(name.startswith(f"{folder}/") for folder in folders)]
    suffixes = sorted({suffix(name) or "files without suffix" for name in inside})
    return f"has {len(inside)} other files ({first_names(suffixes)})" if inside else "is empty"


def _check_depth(where: Path, classes: Classes, below: Collection[str], start: str) -> None:
    """Check that the folders are class folders, not folders that contain class folders."""
    if any(image.count("/") == start.count("/") + 1 for files in classes.values() for image in files):
        return
    inner = [
        {name.split("/")[1] for name in below if name.count("/") == 1 and name.startswith(f"{c}/")}
        for c in classes
    ]
    splits = {name for names in SPLIT_FOLDERS.values() for name in names}
    common = set.intersection(*inner)
    if all(names == common for names in inner) and (len(common) > 1 or {n.lower() for n in common} & splits):
        inner_root = where / next(iter(classes))
        remedy = f"use the data root {inner_root}" if len(classes) == 1 else "put them one folder higher"
        raise ValueError(
            f"{where} {RULE}; each of its folders {first_names(list(classes))} contains the folders "
            f"{first_names(sorted(common))} instead of images; {remedy}"
        )
