"""Check that the image files of a data set can be read, before any work depends on them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import get_args

from hw_profiles.usable_cores import usable_cores
from nas.data import image_file
from nas.data.dataset import Dataset, SplitName
from nas.data.image_folder import ImageFiles
from nas.progress import Progress, silent

MAX_FILES = 5_000
"""A data set with more files is checked only if asked for."""
LISTED = 10
_AT_ONCE = 256
"""Files that are handed to the threads together, so that an interruption waits for no more."""
_log = logging.getLogger("nas")


def check_files(dataset: Dataset, wanted: bool | None = None, progress: Progress = silent) -> None:
    """Read every image file of all splits completely; data sets in memory have none.

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
        _refuse(_failures(paths, progress), len(paths))


def _failures(paths: Sequence[str], progress: Progress) -> list[str]:
    """What is wrong with the files that cannot be read."""
    failures: list[str] = []
    with ThreadPoolExecutor(usable_cores()) as threads:
        for start in range(0, len(paths), _AT_ONCE):
            checked = threads.map(_failure, paths[start : start + _AT_ONCE])
            for done, failure in enumerate(checked, start=start + 1):
                failures += [failure] if failure else []
                progress("check images", done, len(paths))
    return failures


def _failure(path: str) -> str | None:
    try:
        image_file.read(path)
    except ValueError as error:
        return str(error)
    return None


def _refuse(failures: Sequence[str], count: int) -> None:
    if not failures:
        return
    reasons = [failure.removeprefix(image_file.CANNOT_READ) for failure in failures[:LISTED]]
    more = f"; and {len(failures) - LISTED} more" if len(failures) > LISTED else ""
    raise ValueError(
        f"{len(failures)} of {count} images cannot be read, replace or remove them: "
        f"{'; '.join(reasons)}{more}"
    )
