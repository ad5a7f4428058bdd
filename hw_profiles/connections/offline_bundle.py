"""A device without a connection: the user copies the bundle there and the results back."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field

from hw_profiles.atomic_write import replace_file
from hw_profiles.connections.base import NotMeasuredError
from hw_profiles.connections.process import Progress
from hw_profiles.measuring.bundle import IMAGES, MODELS, holds_job, read_job
from hw_profiles.measuring.results import CSV_COLUMNS, Results, read_results
from hw_profiles.measuring.runner.bundle_files import JOB, RESULTS
from hw_profiles.measuring.runner_file import RUNNER

README = "README.txt"


class OfflineBundle(BaseModel, frozen=True, extra="forbid"):
    """Writes a folder to copy to the device, or reads the results that were copied back."""

    kind: Literal["bundle"] = "bundle"
    whole: bool = False
    """Measure whole networks only, for tools that cannot time blocks."""
    out: Path | None = Field(None, exclude=True)
    """The folder to write now."""
    results: Path | None = Field(None, exclude=True)
    """The results to read now: `results.json`, or a CSV file `model_id,latency_ms`."""

    @property
    def supports_block_timing(self) -> bool:
        """See `Connection`."""
        return not self.whole

    @property
    def without_paths(self) -> OfflineBundle:
        """The part that a profile stores."""
        return OfflineBundle(whole=self.whole)

    def describe(self) -> None:
        """See `Connection`.

        Raises:
            ValueError: neither --bundle nor --results was given.
        """
        if self.out is None and self.results is None:
            raise ValueError(
                "this device has no connection: --bundle DIR writes the folder to copy there, "
                "--results FILE reads its results"
            )

    def measure(self, bundle: Path, progress: Progress) -> Results:
        """See `Connection`.

        Raises:
            NotMeasuredError: there are no results yet.
        """
        if self.results:
            return read_results(self.results, read_job(bundle))
        assert self.out, "describe() requires one of them"
        write_folder(bundle, self.out)
        size = sum(path.stat().st_size for path in self.out.rglob("*") if path.is_file())
        raise NotMeasuredError(
            f"{self.out} ({size / 1e6:.1f} MB) is ready to be copied to the device; run `python {RUNNER}` "
            f"there, then the same command here with --results {self.out / RESULTS} instead of --bundle"
        )

    def forget(self, bundle: Path) -> None:
        """See `Connection`."""


def write_folder(bundle: Path, out: Path) -> None:
    """Write a bundle as a folder to copy. If the folder holds the same bundle already, nothing changes.

    Raises:
        ValueError: the folder holds something else.
    """
    text = (bundle / JOB).read_text(encoding="utf-8")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        if holds_job(out, text):
            return
        raise ValueError(f"{out} must be a new or empty folder, or contain this bundle")
    for name in (MODELS, IMAGES):
        if (bundle / name).is_dir():
            shutil.copytree(bundle / name, out / name, ignore=shutil.ignore_patterns("*.bin"))
    out.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(bundle / RUNNER, out / RUNNER)
    replace_file(out / README, _README)
    replace_file(out / JOB, text)


_README = f"""\
Measures the latency of neural networks on the device that this folder was copied to.

1. On the device, with Python 3.8 or later:  pip install numpy onnxruntime
                                            python {RUNNER}
   If it is stopped, the same command continues.
2. Copy {RESULTS} back and pass it to --results.

Another tool than onnxruntime may measure instead: write a CSV file with the columns {",".join(CSV_COLUMNS)}
and one row for each model that job.json marks with "alone": true, and pass it to --results.
`python {RUNNER} --weights` writes the constants that the models refer to.
"""
