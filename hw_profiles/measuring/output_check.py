"""Whether a device computes what this machine computes: a wrong result is no latency."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from hw_profiles.measuring import runner
from hw_profiles.measuring.bundle import read_job
from hw_profiles.measuring.results import Results

_log = logging.getLogger(__name__)

TOLERANCE = {"fp32": 1e-3, "fp16": 0.05, "int8": 0.2}
"""Largest norm of the difference / norm of this machine's outputs."""


def check_outputs(bundle: Path, results: Results) -> None:
    """Compare the outputs that came back with those that ONNX Runtime's CPU provider gives here.

    Args:
        bundle: the folder with the models and their images.
        results: what the device measured; nothing is compared where it tells no outputs.

    Raises:
        ValueError: an output differs by more than the precision explains.
    """
    job = read_job(bundle)
    here = runner.Bundle(str(bundle))
    here.job.update(provider=runner.CPU, threads=1, fallback=True)
    for name, told in results.outputs.items():
        expected = np.array(here.outputs(name)["outputs"])
        if not np.isfinite(expected).all():
            _log.warning(
                "%s gives no finite outputs on noise: what the device computes is not compared", name
            )
            continue
        got = np.array(told)
        if got.shape != expected.shape:
            raise ValueError(
                f"the device gives outputs of the shape {got.shape} for {name}, not {expected.shape}"
            )
        error = float(np.linalg.norm(got - expected) / (np.linalg.norm(expected) or 1.0))
        if not error <= TOLERANCE[job.precision]:  # NaN is wrong too
            raise ValueError(
                f"the device computes {name} wrongly: its outputs differ from this machine's "
                f"by {error:.2g} of their norm, {TOLERANCE[job.precision]:g} is allowed in {job.precision}; "
                f"its latency means nothing until its runtime is mended"
            )
