"""Checks that a device computes the same outputs as this machine: wrong results have no valid latency."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from hw_profiles.measuring.bundle import read_job
from hw_profiles.measuring.results import Results
from hw_profiles.measuring.runner.bundle import Bundle
from hw_profiles.measuring.runner.providers import CPU

_log = logging.getLogger(__name__)

TOLERANCE = {"fp32": 1e-3, "fp16": 0.05, "int8": 0.2, "mixed": 0.2}
"""Largest allowed norm of the difference / norm of the outputs of this machine, by precision."""


def check_outputs(bundle: Path, results: Results) -> None:
    """Compare the outputs of the device with those of ONNX Runtime's CPU provider on this machine.

    Args:
        bundle: the folder with the models and their images.
        results: the results of the device; without outputs, nothing is compared.

    Raises:
        ValueError: an output differs by more than the precision explains.
    """
    job = read_job(bundle)
    local = Bundle(str(bundle))
    local.job.update(provider=CPU, threads=1, fallback=True)
    for name, outputs in results.outputs.items():
        expected = np.array(local.outputs(name)["outputs"])
        if not np.isfinite(expected).all():
            _log.warning(
                "%s has no finite outputs for noise: the outputs of the device are not compared", name
            )
            continue
        actual = np.array(outputs)
        if actual.shape != expected.shape:
            raise ValueError(
                f"the outputs of the device for {name} must have shape {expected.shape}, got {actual.shape}"
            )
        error = float(np.linalg.norm(actual - expected) / (np.linalg.norm(expected) or 1.0))
        if not error <= TOLERANCE[job.precision]:  # so that NaN is an error too
            raise ValueError(
                f"the device computes wrong outputs for {name}: they differ from those of this machine by "
                f"{error:.2g} of their norm, {TOLERANCE[job.precision]:g} is allowed in {job.precision}; the "
                f"latency is not valid until the runtime of the device is fixed"
            )
