"""This machine."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import BaseModel

from hw_profiles.connections.base import Description
from hw_profiles.connections.process import Progress, follow, output
from hw_profiles.measuring.bundle import read_job
from hw_profiles.measuring.results import Results, read_results
from hw_profiles.measuring.runner.bundle_files import RESULTS, TRIALS
from hw_profiles.measuring.runner_file import RUNNER, runner_source


class Local(BaseModel, frozen=True, extra="forbid"):
    """The runner as a process on this machine."""

    kind: Literal["local"] = "local"
    supports_block_timing: ClassVar[bool] = True

    def describe(self) -> Description:
        """See `Connection`."""
        text = output([sys.executable, "-", "--describe"], stdin=runner_source().encode())
        description: Description = json.loads(text)
        return description

    def measure(self, bundle: Path, progress: Progress) -> Results:
        """See `Connection`."""
        follow([sys.executable, str(bundle / RUNNER), str(bundle)], progress)
        return read_results(bundle / RESULTS, read_job(bundle))

    def forget(self, bundle: Path) -> None:
        """See `Connection`."""
        (bundle / TRIALS).unlink(missing_ok=True)
