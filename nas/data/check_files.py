"""Check that the image files of a data set can be read, before any work depends on them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import get_args

import numpy as np

from hw_profiles.measuring.runner.process_limits import usable_cores
from nas.data import image_file
from nas.data.dataset import Dataset, SplitName
from nas.data.image_folder import ImageFiles
from nas.progress import Progress, silent

MAX_FILES = 5_000
"""A data set with more files is checked only if asked for."""
LISTED = 10
DARK = 256 // 16
"""High bytes of 12-bit values are smaller."""
_AT_ONCE = 256
"""Files that are handed to the threads together, so that an interruption waits for no more."""
_log = logging.getLogger("nas")


def check_files(dataset: Dataset, wanted: bool | None = None, progress: Progress = silent) -> None:
    """Read every image file of all splits completely; data sets in memory have none.

    A warning says where 16-bit images look like 12-bit ones, which are read as dark.

    Args:
        dataset: whose files to check.
        wanted: whether to check them; None: if there are at most `MAX_FILES`.
        progress: called after every file.

    Raises:
        ValueError: some files cannot be read, or the check is wanted and there are no files.
    """
    splits = [dataset.split(name).images for name in get_args(SplitName)]
    paths = [path for images in splits if isinstance(images, ImageFiles) for path in images.paths]
    if wanted and not paths:
        raise ValueError("--check-images is for data sets of image files, this one has none")
    if wanted is None and len(paths) > MAX_FILES:
        _log.info(
            "%d image files are not checked, more than %d; --check-images does it", len(paths), MAX_FILES
        )
    elif wanted is not False:
        checked = _checked(paths, progress)
        _refuse([each.failure for each in checked if each.failure], len(paths))
        _warn_of_dark([each.high_byte for each in checked if each.high_byte is not None])


@dataclass(frozen=True, slots=True)
class _Checked:
    """What was found in one file."""

    failure: str | None = None
    """Why it cannot be read."""
    high_byte: int | None = None
    """Of a 16-bit image, the largest one."""


def _checked(paths: Sequence[str], progress: Progress) -> list[_Checked]:
    found: list[_Checked] = []
    with ThreadPoolExecutor(usable_cores()) as threads:
        for start in range(0, len(paths), _AT_ONCE):
            for checked in threads.map(_check, paths[start : start + _AT_ONCE]):
                found.append(checked)
                progress("check images", len(found), len(paths))
    return found


def _check(path: str) -> _Checked:
    try:
        image = image_file.read(path)
        if not image_file.has_sixteen_bits(path):
            return _Checked()
        return _Checked(high_byte=int(np.asarray(image).max()))
    except ValueError as error:
        return _Checked(failure=str(error))


def _warn_of_dark(high_bytes: Sequence[int]) -> None:
    if high_bytes and max(high_bytes) < DARK:
        _log.warning(
            "all %d 16-bit images use less than 1/16 of the range, as 12-bit values do, and are read as "
            "dark: of 16-bit values the high byte counts; if that is not meant, save the values times 16",
            len(high_bytes),
        )


def _refuse(failures: Sequence[str], count: int) -> None:
    if not failures:
        return
    reasons = [failure.removeprefix(image_file.CANNOT_READ) for failure in failures[:LISTED]]
    more = f"; and {len(failures) - LISTED} more" if len(failures) > LISTED else ""
    raise ValueError(
        f"{len(failures)} of {count} images cannot be read, replace or remove them: "
        f"{'; '.join(reasons)}{more}"
    )
