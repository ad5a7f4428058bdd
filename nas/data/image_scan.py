"""Search for image files below a folder."""

from __future__ import annotations

import os
import stat
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from nas.data.image_file import suffixes

SYSTEM_NAMES = frozenset(
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
"""Names, in lower case, of folders and files that operating systems and servers create."""
NAMED_SUFFIXES = 10


@dataclass(frozen=True)
class Scan:
    """The files below a folder; names are relative to it, with `/`."""

    images: list[str] = field(default_factory=list)
    """Image files, each real file once."""
    folders: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    """Files with other suffixes."""
    skipped: Counter[str] = field(default_factory=Counter)
    """Numbers of skipped files and folders by kind, such as `hidden file`."""

    def left_out(self) -> str:
        """Description of the files that were left out, such as `40 .txt, 1 hidden folder`."""
        counts = Counter(map(suffix, self.others)).most_common()
        parts = [f"{count} {name or 'without suffix'}" for name, count in counts[:NAMED_SUFFIXES]]
        n_others = sum(count for _, count in counts[NAMED_SUFFIXES:])
        parts += [plural(n_others, "other file")] if n_others else []
        return ", ".join([*parts, *(plural(count, kind) for kind, count in sorted(self.skipped.items()))])


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
    """Whether a file or folder with this name is hidden or belongs to an operating system."""
    return name.startswith(".") or name.lower() in SYSTEM_NAMES


def scan(root: Path, folders: Sequence[str]) -> Scan:
    """All images in `root` and, at any depth, in some of its folders.

    Hidden files and folders are left out. Links are followed, but each real folder and file is listed once.

    Args:
        root: the folder that names are relative to.
        folders: names of the folders in `root` to search.
    """
    walk = _Walk(root)
    walk.walk("", only=folders)
    walk.follow_links()
    walk.result.images.sort()
    walk.result.folders.sort()
    return walk.result


class _Walk:
    """A walk through folders: first the real ones, then the targets of links."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.result = Scan()
        self.links: deque[str] = deque()
        self.visited: set[tuple[int, int]] = set()

    def walk(self, folder: str, only: Sequence[str] | None = None) -> None:
        """Walk a folder unless it was visited before; with `only`, other folders in it are skipped."""
        path = self.root / folder
        if self._visited_before(os.stat(path)):
            self.result.skipped["repeated link"] += 1
            return
        if folder:
            self.result.folders.append(folder)
        for entry in _entries(path):
            name = f"{folder}/{entry.name}" if folder else entry.name
            if is_hidden(entry.name):
                self.result.skipped["hidden folder" if _is_folder(entry) else "hidden file"] += 1
            elif only is not None and _is_folder(entry) and entry.name not in only:
                continue
            elif entry.is_symlink():
                self.links.append(name)
            elif _is_folder(entry):
                self.walk(name)
            else:
                self.add(name, os.stat(entry.path), linked=False)

    def follow_links(self) -> None:
        """Walk the targets of all links, including links found there."""
        real_root = self.root.resolve()
        while self.links:
            name = self.links.popleft()
            path = self.root / name
            try:
                status = os.stat(path)
            except OSError:
                self.result.skipped["broken link"] += 1
                continue
            if not stat.S_ISDIR(status.st_mode):
                self.add(name, status, linked=True)
            elif real_root.is_relative_to(path.resolve()):
                self.result.skipped["repeated link"] += 1
            else:
                self.walk(name)

    def add(self, name: str, status: os.stat_result, *, linked: bool) -> None:
        """Add a file to the result."""
        if not stat.S_ISREG(status.st_mode):
            self.result.skipped["special file"] += 1
        elif suffix(name) not in suffixes():
            self.result.others.append(name)
        elif self._visited_before(status) and (linked or status.st_nlink > 1):
            self.result.skipped["repeated link"] += 1
        else:
            self.result.images.append(name)

    def _visited_before(self, status: os.stat_result) -> bool:
        key = (status.st_dev, status.st_ino)
        if key in self.visited:
            return True
        self.visited.add(key)
        return False


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder or a link to one; `is_dir()` would raise an error for a link to itself."""
    return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()


def _entries(folder: Path) -> Sequence[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise ValueError(f"cannot list the folder {folder}: {error.strerror}") from None
