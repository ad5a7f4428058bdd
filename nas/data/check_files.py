"""Check that the image files of a data set can be read, before work starts that needs them."""

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
"""A data set with more files is checked only on request."""
MAX_LISTED = 10
MIN_HIGH_BYTE = 256 // 16
"""Above the high bytes of all 12-bit values."""
_CHUNK = 256
"""Files that are submitted to the threads together, which bounds the delay of an interruption."""
_log = logging.getLogger("nas")


def check_files(dataset: Dataset, requested: bool | None = None, progress: Progress = silent) -> None:
    """Read every image file of all splits completely; data sets in memory have no files.

    A warning is logged if all 16-bit images look like 12-bit ones, which appear too dark.

    Args:
        dataset: the data set.
        requested: whether to check the files; None: only if there are at most `MAX_FILES`.
        progress: called after each file.

    Raises:
        ValueError: some files cannot be read, or `requested` is given and there are no files.
    """
    splits = [dataset.split(name).images for name in get_args(SplitName)]
    paths = [path for images in splits if isinstance(images, ImageFiles) for path in images.paths]
    if requested is not None and not paths:
        option = "--check-images" if requested else "--no-check-images"
        raise ValueError(f"{option} has no effect without image files; leave it out")
    if requested is None and len(paths) > MAX_FILES:
        _log.info(
            "%d image files are not checked because there are more than %d; use --check-images to check them",
            len(paths),
            MAX_FILES,
        )
    elif requested is not False:
        results = _check_all(paths, progress)
        _raise_failures([result.failure for result in results if result.failure], len(paths))
        _warn_of_dark_images([result.high_byte for result in results if result.high_byte is not None])


@dataclass(frozen=True, slots=True)
class _Result:
    """Result of the check of one file."""

    failure: str | None = None
    """The reason why the file cannot be read; None if it can be read."""
    high_byte: int | None = None
    """The largest high byte of a 16-bit image."""


def _check_all(paths: Sequence[str], progress: Progress) -> list[_Result]:
    results: list[_Result] = []
    with ThreadPoolExecutor(usable_cores()) as threads:
        for start in range(0, len(paths), _CHUNK):
            for result in threads.map(_check, paths[start : start + _CHUNK]):
                results.append(result)
                progress("check images", len(results), len(paths))
    return results


def _check(path: str) -> _Result:
    try:
        image = image_file.read(path)
        if not image_file.has_sixteen_bits(path):
            return _Result()
        return _Result(high_byte=int(np.asarray(image).max()))
    except ValueError as error:
        return _Result(failure=str(error))


def _warn_of_dark_images(high_bytes: Sequence[int]) -> None:
    if high_bytes and max(high_bytes) < MIN_HIGH_BYTE:
        _log.warning(
            "all %d 16-bit images use less than 1/16 of the range, as 12-bit values do, and appear dark: "
            "only the high byte of 16-bit values is used; multiply the values of 12-bit images by 16",
            len(high_bytes),
        )


def _raise_failures(failures: Sequence[str], count: int) -> None:
    if not failures:
        return
    reasons = [failure.removeprefix(image_file.CANNOT_READ) for failure in failures[:MAX_LISTED]]
    more = f"; and {len(failures) - MAX_LISTED} more" if len(failures) > MAX_LISTED else ""
    raise ValueError(
        f"{len(failures)} of {count} images cannot be read, replace or remove them: "
        f"{'; '.join(reasons)}{more}"
    )
