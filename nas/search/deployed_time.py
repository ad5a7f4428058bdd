"""The time to evaluate a subnet as a device computes it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from nas.evaluation.deployed import Target, deployed_model, float_model, network_metrics, open_onnx
from nas.evaluation.trained_run import TrainedRun
from nas.onnx_backend.precision import INT8
from nas.search.subnet_time import SubnetTime
from search_spaces import Arch

IMAGES = 128
"""Validation images of the timing."""


def time_deployed(trained: TrainedRun, metrics: Sequence[str], arch: Arch, target: Target) -> SubnetTime:
    """Time the evaluation of a subnet as deployed, all of it in INT8, which takes most time.

    Args:
        trained: the run.
        metrics: names of further metrics to compute.
        arch: a typical subnet of the run's space.
        target: the device.
    """
    n = min(IMAGES, len(trained.dataset.split("validation")))
    part = trained.with_validation_images(n)
    known = part.evaluator(extra_metrics=metrics).metrics
    begin, cpu_begin = time.perf_counter(), time.process_time()
    model = deployed_model(part, arch, replace(target, precision=INT8), float_model(part, arch))
    network = open_onnx(model.SerializeToString(), target.instruction_set)
    built = time.perf_counter()
    network_metrics(part, arch, network, None, known)
    end = time.perf_counter()
    cpu_seconds = time.process_time() - cpu_begin
    return SubnetTime(built - begin, (end - built) / n, cpu_seconds / (end - begin))
