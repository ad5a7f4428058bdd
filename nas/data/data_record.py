"""The record of a run's image files: names, labels, splits and contents."""

from __future__ import annotations

import csv
import hashlib
import io
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import get_args

from nas.data.dataset import Dataset, SplitName
from nas.data.image_folder import file_names
from search_spaces.errors import first_names

MAX_HASHED = 20_000
"""Runs with more files record no digests: for them, files of equal size count as unchanged."""
WHOLE_BYTES, PART_BYTES = 2**20, 2**18
"""A file of at most `WHOLE_BYTES` is hashed completely, a larger one at its start, middle and end."""


@dataclass(frozen=True, slots=True)
class FileRecord:
    """One image file of a run."""

    split: SplitName
    file: str
    """Path relative to the data root, with `/`."""
    label: int
    size: int
    """Size of the file in bytes."""
    mtime_ns: int
    """Time of the last modification; if it has not changed, the digest is not computed again."""
    digest: str
    """See `digest`; empty in runs with more than `MAX_HASHED` files."""


def record_files(dataset: Dataset, root: Path) -> list[FileRecord]:
    """All files of an image folder, split by split, each in the order of its split.

    Raises:
        ValueError: a file cannot be read.
    """
    files = [
        (split, name, int(label))
        for split in get_args(SplitName)
        for name, label in zip(
            file_names(dataset.split(split), root), dataset.split(split).targets, strict=True
        )
    ]
    paths = [root / name for _, name, _ in files]
    digests = _digests(paths) if len(paths) <= MAX_HASHED else [""] * len(paths)
    statuses = map(os.stat, paths)
    return [
        FileRecord(split, name, label, status.st_size, status.st_mtime_ns, content)
        for (split, name, label), status, content in zip(files, statuses, digests, strict=True)
    ]


def fingerprint(records: Iterable[FileRecord]) -> str:
    """16 hex digits that depend on names, labels, splits and contents, but not on the data root."""
    total = hashlib.blake2b(digest_size=8)
    for r in records:
        total.update("\0".join((r.split, r.file, str(r.label), str(r.size), r.digest)).encode(*_ENCODING))
        total.update(b"\n")
    return total.hexdigest()


def digest(path: Path) -> str:
    """32 hex digits of the content of a file, or of three parts of a large one."""
    content_hash = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size <= WHOLE_BYTES:
            content_hash.update(file.read())
        else:
            for start in (0, (size - PART_BYTES) // 2, size - PART_BYTES):
                file.seek(start)
                content_hash.update(file.read(PART_BYTES))
    return content_hash.hexdigest()


def check_unchanged(records: Sequence[FileRecord], root: Path) -> None:
    """Check that all files are in `root` and unchanged since they were recorded.

    Raises:
        ValueError: some files are missing or have changed.
    """
    missing, changed, touched = [], [], []
    for record in records:
        try:
            status = os.stat(root / record.file)
        except OSError:
            missing.append(record.file)
            continue
        if status.st_size != record.size:
            changed.append(record.file)
        elif status.st_mtime_ns != record.mtime_ns and record.digest:
            touched.append(record)
    digests = _digests([root / record.file for record in touched])
    changed += [r.file for r, content in zip(touched, digests, strict=True) if r.digest != content]
    findings = [
        f"{len(names)} of {len(records)} {problem} ({first_names(names)})"
        for names, problem in ((missing, "are missing"), (changed, "have changed"))
        if names
    ]
    if findings:
        raise ValueError(
            f"the image files of a run must not change after the run was created; in {root} "
            f"{' and '.join(findings)}; restore them, give their folder with --data-root, or start a new run"
        )


_COLUMNS = tuple(field.name for field in fields(FileRecord))
_ENCODING = ("utf-8", "surrogateescape")  # file names may be any bytes


def to_csv(records: Iterable[FileRecord]) -> bytes:
    """The records as a table."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    writer.writerows(map(astuple, records))
    return text.getvalue().encode(*_ENCODING)


def read_csv(path: Path) -> list[FileRecord]:
    """The records in a file that `to_csv` made.

    Raises:
        ValueError: the file is missing or damaged.
    """
    try:
        text = path.read_bytes().decode(*_ENCODING)
        header, *rows = csv.reader(io.StringIO(text, newline=""))
        if tuple(header) != _COLUMNS:
            raise ValueError(f"its columns must be {','.join(_COLUMNS)}")
        return [
            FileRecord(_split(split), file, int(label), int(size), int(mtime_ns), content)
            for split, file, label, size, mtime_ns, content in rows
        ]
    except (OSError, ValueError, csv.Error) as error:
        raise ValueError(f"cannot read {path}, the record of the run's files: {error}") from None


def _split(name: str) -> SplitName:
    for split_name in get_args(SplitName):
        if name == split_name:
            split: SplitName = split_name
            return split
    raise ValueError(f"a split must be one of {', '.join(get_args(SplitName))}, got {name!r}")


def _digests(paths: Sequence[Path]) -> list[str]:
    try:
        with ThreadPoolExecutor() as pool:
            return list(pool.map(digest, paths))
    except OSError as error:
        raise ValueError(f"cannot read the image {error.filename}: {error.strerror}") from None
