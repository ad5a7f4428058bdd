"""How images lie in folders: one folder per class, perhaps below one folder per split."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from nas.data.dataset import SplitName
from nas.data.image_scan import Scan, plural, scan, suffix, visible_folders

SPLIT_FOLDERS: Mapping[SplitName, tuple[str, ...]] = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
"""Names, in lower case, of folders that hold the class folders of a split."""
RULE = (
    "must hold one folder of images per class, or the folders train and val or test (or both) with one "
    "folder of images per class in each"
)
NAMED = 10
"""Names that a message lists at most."""

Classes = Mapping[str, list[str]]
"""Files of each class, relative to the root of the layout."""


@dataclass(frozen=True)
class Layout:
    """Image files by split and class."""

    classes: Classes
    """Of all images, where there are no split folders."""
    splits: Mapping[SplitName, Classes]
    """Of each split folder."""
    left_out: str
    """What is no image of a class, such as `40 .txt, 1 hidden folder`."""


def read_layout(root: Path) -> Layout:
    """Find the images of each class.

    Raises:
        ValueError: no layout that `RULE` describes.
    """
    splits = _split_folders(root)
    folders = visible_folders(root)
    found = scan(root, sorted(splits.values()) if splits else folders)
    classes = {} if splits else _classes(root, "", found)
    by_split = {split: _classes(root, folder, found) for split, folder in splits.items()}
    labelled = sum(len(files) for group in (classes, *by_split.values()) for files in group.values())
    if labelled < len(found.images):
        found.skipped["image outside of class folders"] = len(found.images) - labelled
    others = sorted(set(folders) - set(splits.values())) if splits else []
    left_out = [found.left_out(), f"the folders {named(others)}" if others else ""]
    return Layout(classes, by_split, ", ".join(filter(None, left_out)))


def _split_folders(root: Path) -> Mapping[SplitName, str]:
    """The folder of each split; none where the folders are classes."""
    folders = visible_folders(root)
    roles = {
        name: split for name in folders for split, names in SPLIT_FOLDERS.items() if name.lower() in names
    }
    filled = [name for name in roles if visible_folders(root / name)]
    if not roles or (len(roles) == 1 < len(folders) and not filled):
        return {}  # one name of a split among other folders, with no folders in it, is a class
    splits = {split: name for split in SPLIT_FOLDERS for name in filled if roles[name] == split}
    seen = f"it holds the folders {named(folders)}"
    flat = [name for name in roles if name not in filled and (roles[name] != "test" or not filled)]
    if flat:
        raise ValueError(f"{root} {RULE}; {seen}, and {named(flat)} without folders of classes")
    if len(splits) < len(filled):
        raise ValueError(f"{root} {RULE}; {seen}, of which two are for the same split")
    if list(splits) == ["train"]:
        alone = root / splits["train"]
        raise ValueError(f"{root} {RULE}; {seen}; data_root={alone} would split the images of {alone.name}")
    if "train" not in splits:
        raise ValueError(f"{root} {RULE}; {seen}; rename {named(filled)} if that is a class")
    return splits


def _classes(root: Path, folder: str, found: Scan) -> Classes:
    """Files of each class folder in `folder`, which is the root or a split folder."""
    start = f"{folder}/" if folder else ""
    below = {name[len(start) :] for name in found.folders if name.startswith(start)}
    names = sorted(name for name in below if name and "/" not in name)
    images = [name for name in found.images if name.startswith(start)]
    where = root / folder
    if not names:
        raise ValueError(f"{where} {RULE}; it holds {_seen(images, found)}")
    classes: dict[str, list[str]] = {name: [] for name in names}
    for image in images:
        name, slash, _ = image[len(start) :].partition("/")
        if slash:
            classes[name].append(image)
    empty = [name for name, files in classes.items() if not files]
    if empty:
        raise ValueError(
            f"{where}: each class folder must hold images that can be read, {named(empty)} "
            f"{_contents(found, {start + name for name in empty})}; add images or remove the folder"
        )
    _check_depth(where, classes, below, start)
    return {
        name: sorted(files, key=lambda file: file.rpartition("/")[::2]) for name, files in classes.items()
    }


def _seen(images: Collection[str], found: Scan) -> str:
    left_out = found.left_out()
    return f"{plural(len(images), 'image')} and no folders" + (f"; left out: {left_out}" if left_out else "")


def _contents(found: Scan, folders: Collection[str]) -> str:
    """What these folders hold instead of images."""
    inside = [name for name in found.others if any(name.startswith(f"{folder}/") for folder in folders)]
    suffixes = sorted({suffix(name) or "files without suffix" for name in inside})
    return f"has {len(inside)} other files ({named(suffixes)})" if inside else "is empty"


def _check_depth(where: Path, classes: Classes, below: Collection[str], start: str) -> None:
    """Refuse folders above the class folders that would be taken for classes."""
    if any(image.count("/") == start.count("/") + 1 for files in classes.values() for image in files):
        return
    inner = [
        {name.split("/")[1] for name in below if name.count("/") == 1 and name.startswith(f"{c}/")}
        for c in classes
    ]
    splits = {name for names in SPLIT_FOLDERS.values() for name in names}
    common = set.intersection(*inner)
    if all(names == common for names in inner) and (len(common) > 1 or {n.lower() for n in common} & splits):
        only = where / next(iter(classes))
        remedy = f"give data_root={only}" if len(classes) == 1 else "put them one folder higher"
        raise ValueError(
            f"{where} {RULE}; each of its folders {named(list(classes))} holds the folders "
            f"{named(sorted(common))} instead of images; {remedy}"
        )


def named(names: Collection[str]) -> str:
    """The first of these names, and how many more there are."""
    shown = ", ".join(list(names)[:NAMED])
    return shown if len(names) <= NAMED else f"{shown} and {len(names) - NAMED} more"
