"""This machine."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import BaseModel

from hw_profiles.connections.base import Description
from hw_profiles.connections.process import Progress, follow, output
from hw_profiles.measuring.bundle import RESULTS, RUNNER, TRIALS, read_job
from hw_profiles.measuring.results import Results, read_results


class Local(BaseModel, frozen=True, extra="forbid"):
    """The runner on this machine, as a process of its own."""

    kind: Literal["local"] = "local"
    supports_block_timing: ClassVar[bool] = True

    def describe(self) -> Description:
        """See `Connection`."""
        told: Description = json.loads(output([sys.executable, str(RUNNER), "--describe"]))
        return told

    def measure(self, bundle: Path, progress: Progress) -> Results:
        """See `Connection`."""
        follow([sys.executable, str(RUNNER), str(bundle)], progress)
        return read_results(bundle / RESULTS, read_job(bundle))

    def forget(self, bundle: Path) -> None:
        """See `Connection`."""
        (bundle / TRIALS).unlink(missing_ok=True)
