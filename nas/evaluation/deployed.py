"""Accuracy of subnets as deployed: in the precision of a device, run by ONNX Runtime."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray

from hw_profiles.device import Device
from hw_profiles.measuring.runner.device_description import instruction_set
from nas.data.batches import calibration_batches, eval_batches
from nas.evaluation.group import CHUNK
from nas.evaluation.trained_run import TrainedRun
from nas.onnx_backend import onnx_graph
from nas.onnx_backend.precision import FP32, convert
from nas.onnx_backend.quantize import Ranges, calibrate
from nas.tasks.metrics import Accumulators, Metric
from search_spaces import Arch

Network = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""Maps images (batch, channels, size, size) to outputs (batch, ...)."""

CALIBRATION_IMAGES = 512
_CALIBRATION_BATCH = 16
"""All activations of a batch are in memory at once."""


@dataclass(frozen=True)
class Target:
    """The precision, batch size and processor for which a subnet is exported."""

    precision: str = FP32
    """One of `nas.onnx_backend.precision.PRECISIONS`."""
    batch: int | None = 1
    """Batch size; None: dynamic."""
    instruction_set: str | None = field(default_factory=instruction_set)
    """Instruction set of the device, which determines the INT8 scheme; None: unknown."""

    @classmethod
    def of(cls, device: Device | None) -> Target:
        """The target for a device; None: this machine in fp32."""
        if device is None:
            return cls()
        key, hardware = device.profile.key, device.profile.hardware
        return cls(key.precision, key.batch, key.int8_for or hardware.instruction_set)


def deployed_model(trained: TrainedRun, arch: Arch, target: Target, fp32: onnx.ModelProto) -> onnx.ModelProto:
    """The subnet in the precision of the target; INT8 ranges are calibrated on clean training images.

    Raises:
        ValueError: the precision is unknown, or there is no INT8 scheme for the instruction set.
    """
    size = trained.space.image_size(arch)

    def ranges(model: onnx.ModelProto) -> Ranges:
        strata = trained.task.strata(trained.dataset.split("train").targets)
        batches = calibration_batches(
            trained.dataset, strata, CALIBRATION_IMAGES, size, _CALIBRATION_BATCH, seed=0
        )
        return calibrate(model, (images.numpy() for images, _ in batches))

    return convert(fp32, trained.space.blocks(arch), target.precision, target.instruction_set, ranges)


def open_onnx(content: bytes) -> Network:
    """The network in an ONNX file, run by ONNX Runtime on this machine."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def run(images: NDArray[np.float32]) -> NDArray[np.float32]:
        outputs: NDArray[np.float32] = session.run(None, {onnx_graph.INPUT: images})[0]
        return outputs

    return run


def in_batches(network: Network, images: torch.Tensor, batch: int | None) -> NDArray[np.float32]:
    """Outputs for any number of images from a network with batch size `batch` (None: dynamic).

    The last batch is padded with the first images.
    """
    step = batch or len(images)
    count = step * math.ceil(len(images) / step)
    padded = images[torch.arange(count) % len(images)]
    return np.concatenate([network(part.numpy()) for part in padded.split(step)])[: len(images)]


def validation_metrics(
    trained: TrainedRun, arch: Arch, network: Network, batch: int | None, metrics: Mapping[str, Metric]
) -> dict[str, float]:
    """Metrics of a network on the validation split."""
    batches = eval_batches(trained.dataset, "validation", trained.space.image_size(arch), CHUNK)
    accumulators = Accumulators(metrics, f"the subnet {arch.id} as deployed")
    for images, targets in batches:
        accumulators.update(torch.from_numpy(in_batches(network, images, batch)), targets)
    return accumulators.results()
