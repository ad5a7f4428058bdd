"""A device that nobody can reach from here: a person carries the bundle there and the results back."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field

from hw_profiles.atomic_write import replace_file
from hw_profiles.connections.base import NotMeasuredError
from hw_profiles.connections.process import Progress
from hw_profiles.measuring.bundle import IMAGES, JOB, MODELS, RESULTS, RUNNER, read_job
from hw_profiles.measuring.results import CSV_COLUMNS, Results, read_results

RUN = "run.py"
README = "README.txt"


class OfflineBundle(BaseModel, frozen=True, extra="forbid"):
    """Writes a folder to carry, or reads what came back."""

    kind: Literal["bundle"] = "bundle"
    whole: bool = False
    """Whole networks alone, for tools that tell nothing smaller."""
    out: Path | None = Field(None, exclude=True)
    """Where the folder is written now."""
    results: Path | None = Field(None, exclude=True)
    """What came back: `results.json`, or a CSV `model_id,latency_ms`."""

    @property
    def supports_block_timing(self) -> bool:
        """See `Connection`."""
        return not self.whole

    @property
    def lasting(self) -> OfflineBundle:
        """What of it a profile keeps."""
        return OfflineBundle(whole=self.whole)

    def describe(self) -> None:
        """See `Connection`.

        Raises:
            ValueError: nobody is to carry anything.
        """
        if self.out is None and self.results is None:
            raise ValueError(
                "this device is measured by hand: --bundle DIR writes the folder to carry there, "
                "--results FILE reads what comes back"
            )

    def measure(self, bundle: Path, progress: Progress) -> Results:
        """See `Connection`.

        Raises:
            NotMeasuredError: nothing came back yet.
        """
        if self.results:
            return read_results(self.results, read_job(bundle))
        assert self.out, "describe() refuses what is neither"
        write_folder(bundle, self.out)
        size = sum(path.stat().st_size for path in self.out.rglob("*") if path.is_file())
        raise NotMeasuredError(
            f"{self.out} ({size / 1e6:.1f} MB) is ready to be carried; there: `python {RUN}`; here, when it "
            f"is back: the same command with --results {self.out / RESULTS} instead of --bundle"
        )

    def forget(self, bundle: Path) -> None:
        """See `Connection`."""


def write_folder(bundle: Path, out: Path) -> None:
    """Write a bundle with the runner as a folder to carry; a finished trial in it is kept.

    Raises:
        ValueError: the folder holds something else.
    """
    text = (bundle / JOB).read_text(encoding="utf-8")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        if (out / JOB).is_file() and (out / JOB).read_text(encoding="utf-8") == text:
            return
        raise ValueError(f"{out} must be a new or empty folder, or hold this very bundle")
    for name in (MODELS, IMAGES):
        if (bundle / name).is_dir():
            shutil.copytree(bundle / name, out / name, ignore=shutil.ignore_patterns("*.bin"))
    shutil.copyfile(RUNNER, out / RUN)
    replace_file(out / README, _README)
    replace_file(out / JOB, text)


_README = f"""\
Measures the latency of neural networks on the device that this folder was carried to.

1. There, with Python 3.8 or later:  pip install numpy onnxruntime
                                     python {RUN}
   Stopped at any moment, it goes on when it is called again.
2. Carry {RESULTS} back and give it to --results.

Another tool than onnxruntime may measure instead: a CSV file with the columns {",".join(CSV_COLUMNS)}
and a row for each model that job.json marks with "alone": true serves as well.
`python {RUN} --weights` writes the numbers that the models refer to.
"""
