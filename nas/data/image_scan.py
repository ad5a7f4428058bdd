"""Which files below a folder are images, and which are left out."""

from __future__ import annotations

import os
import stat
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from nas.data.image_file import suffixes

HELPERS = frozenset(
    {
        "__macosx",
        "__pycache__",
        "@eadir",
        "#recycle",
        "$recycle.bin",
        "desktop.ini",
        "ehthumbs.db",
        "lost+found",
        "system volume information",
        "thumbs.db",
    }
)
"""Names, in lower case, of folders and files that operating systems and servers add."""
NAMED_SUFFIXES = 10


@dataclass(frozen=True)
class Scan:
    """What lies below a folder; names are relative to it, with `/`."""

    images: list[str] = field(default_factory=list)
    """Each real file once."""
    folders: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    """Files whose suffix is no image's."""
    skipped: Counter[str] = field(default_factory=Counter)
    """Numbers of hidden folders, hidden files and the like, by what they are."""

    def left_out(self) -> str:
        """What was left out and how often, such as `40 .txt, 1 hidden folder`."""
        counts = Counter(map(suffix, self.others)).most_common()
        shown = [f"{count} {name or 'without suffix'}" for name, count in counts[:NAMED_SUFFIXES]]
        rest = sum(count for _, count in counts[NAMED_SUFFIXES:])
        shown += [plural(rest, "other file")] if rest else []
        return ", ".join([*shown, *(plural(count, what) for what, count in sorted(self.skipped.items()))])


def suffix(name: str) -> str:
    """The suffix of a file name in lower case, with the dot."""
    return PurePosixPath(name).suffix.lower()


def plural(count: int, noun: str) -> str:
    """`1 image`, `2 images`."""
    return f"{count} {noun}" + ("" if count == 1 else "s")


def visible_folders(folder: Path) -> list[str]:
    """Names of the folders in `folder`, sorted, without hidden ones."""
    return [e.name for e in _entries(folder) if not is_hidden(e.name) and _is_folder(e)]


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is hidden, or a helper of an operating system."""
    return name.startswith(".") or name.lower() in HELPERS


def scan(root: Path, folders: Sequence[str]) -> Scan:
    """All images in `root` itself and, at any depth, in these folders of it.

    Hidden files and folders are left out. Links are followed, but each real folder and each real file counts
    once.

    Args:
        root: the folder that names are relative to.
        folders: names of folders in `root`; others are not looked into.
    """
    walk = _Walk(root)
    walk.walk("", only=folders)
    walk.follow_links()
    found = walk.found
    found.images.sort()
    found.folders.sort()
    return found


class _Walk:
    """A walk through folders: first all real ones, then what links lead to."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.found = Scan()
        self.links: deque[str] = deque()
        self.seen: set[tuple[int, int]] = set()

    def walk(self, folder: str, only: Sequence[str] | None = None) -> None:
        """Walk a folder, unless that was done; `only` names the folders in it that are wanted."""
        path = self.root / folder
        if self._seen_before(os.stat(path)):
            self.found.skipped["repeated link"] += 1
            return
        if folder:
            self.found.folders.append(folder)
        for entry in _entries(path):
            name = f"{folder}/{entry.name}" if folder else entry.name
            if is_hidden(entry.name):
                self.found.skipped["hidden folder" if _is_folder(entry) else "hidden file"] += 1
            elif only is not None and _is_folder(entry) and entry.name not in only:
                continue
            elif entry.is_symlink():
                self.links.append(name)
            elif _is_folder(entry):
                self.walk(name)
            else:
                self.take(name, os.stat(entry.path), linked=False)

    def follow_links(self) -> None:
        """Walk what the links lead to that were met, and those met there."""
        real_root = self.root.resolve()
        while self.links:
            name = self.links.popleft()
            path = self.root / name
            try:
                status = os.stat(path)
            except OSError:
                self.found.skipped["broken link"] += 1
                continue
            if not stat.S_ISDIR(status.st_mode):
                self.take(name, status, linked=True)
            elif real_root.is_relative_to(path.resolve()):
                self.found.skipped["repeated link"] += 1
            else:
                self.walk(name)

    def take(self, name: str, status: os.stat_result, *, linked: bool) -> None:
        """Sort a file in."""
        if not stat.S_ISREG(status.st_mode):
            self.found.skipped["special file"] += 1
        elif suffix(name) not in suffixes():
            self.found.others.append(name)
        elif self._seen_before(status) and (linked or status.st_nlink > 1):
            self.found.skipped["repeated link"] += 1
        else:
            self.found.images.append(name)

    def _seen_before(self, status: os.stat_result) -> bool:
        key = (status.st_dev, status.st_ino)
        if key in self.seen:
            return True
        self.seen.add(key)
        return False


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder or a link to one; `entry.is_dir()` raises an error for a link to itself."""
    return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()


def _entries(folder: Path) -> Sequence[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise ValueError(f"cannot list the folder {folder}: {error.strerror}") from None
