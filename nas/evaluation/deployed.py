"""Metrics of subnets as deployed, i.e. in the precision of a device and computed by ONNX Runtime."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray

from hw_profiles.device import Device
from hw_profiles.measuring.runner.device_description import instruction_set
from nas.data.batches import calibration_batches, eval_batches
from nas.data.dataset import SplitName
from nas.evaluation.group import CHUNK
from nas.evaluation.trained_run import TrainedRun
from nas.onnx_backend import onnx_graph
from nas.onnx_backend.calibrate import Method, Ranges, calibrate
from nas.onnx_backend.dynamic_products import with_float_products
from nas.onnx_backend.precision import FP32, blocks_in, convert, float_blocks
from nas.tasks.metrics import Accumulators, Metric
from search_spaces import Arch
from search_spaces.precision_space import float_arch

Network = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""Maps images (batch, channels, size, size) to outputs (batch, ...)."""

CALIBRATION_IMAGES = 512
_CALIBRATION_BATCH = 16
"""Small, because all activations of a batch are in memory at once."""


@dataclass(frozen=True)
class Target:
    """The precision, batch size and processor for which a subnet is exported."""

    precision: str = FP32
    """One of `nas.onnx_backend.precision.PRECISIONS`."""
    batch: int | None = 1
    """Batch size; None: dynamic."""
    instruction_set: str | None = field(default_factory=instruction_set)
    """Instruction set of the device, which determines the INT8 scheme; None: unknown."""
    ranges: Method = "minmax"
    """Method that finds the ranges of INT8 activations."""

    @classmethod
    def of(cls, device: Device | None) -> Target:
        """The target for a device; None: this machine in fp32."""
        if device is None:
            return cls()
        key, hardware = device.profile.key, device.profile.hardware
        return cls(key.precision, key.batch, key.int8_for or hardware.instruction_set)


def float_model(trained: TrainedRun, arch: Arch, batch: int | None = None) -> onnx.ModelProto:
    """The subnet in fp32 with recalibrated batch norms; precisions that `arch` chooses are ignored."""
    plain = float_arch(trained.space, arch)
    weights = trained.evaluator().subnet(plain).weights()
    return onnx_graph.build(float_blocks(trained.space, arch), weights, batch=batch)


def deployed_model(trained: TrainedRun, arch: Arch, target: Target, fp32: onnx.ModelProto) -> onnx.ModelProto:
    """The subnet in the precision of the target; INT8 ranges are calibrated on clean training images.

    Args:
        trained: the run.
        arch: a subnet of its space, or of this space with the precision of its parts as a choice.
        target: precision and processor.
        fp32: the subnet in fp32, see `float_model`.

    Raises:
        ValueError: the precision is unknown, the subnet does not choose the precision of its parts, or there
            is no INT8 scheme for the instruction set.
    """
    blocks = blocks_in(trained.space, arch, target.precision)

    def ranges(model: onnx.ModelProto) -> Ranges:
        return _ranges(trained, arch, model, target.ranges)

    return convert(fp32, blocks, target.instruction_set, ranges)


def _ranges(trained: TrainedRun, arch: Arch, model: onnx.ModelProto, method: Method) -> Ranges:
    """The ranges of the activations of a subnet in fp32; they do not depend on its precision."""
    plain = float_arch(trained.space, arch)
    if (plain.id, method) not in trained.ranges:
        images = _CalibrationImages(trained, trained.space.image_size(plain))
        trained.ranges[plain.id, method] = calibrate(model, images, method)
    return trained.ranges[plain.id, method]


@dataclass(frozen=True)
class _CalibrationImages:
    """Batches of clean training images."""

    trained: TrainedRun
    size: int

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        data = self.trained.dataset
        strata = self.trained.task.strata(data.split("train").targets)
        batches = calibration_batches(data, strata, CALIBRATION_IMAGES, self.size, _CALIBRATION_BATCH, seed=0)
        return (images.numpy() for images, _ in batches)


def open_onnx(content: bytes, written_for: str | None = None) -> Network:
    """The network in an ONNX file, run by ONNX Runtime on this machine.

    Args:
        content: the file.
        written_for: instruction set for which its INT8 values were chosen, see `Target`. On a machine with
            another instruction set, products of integers could overflow, so they are computed in floating
            point.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only
    if written_for not in (None, instruction_set()):
        options.add_session_config_entry("session.disable_quant_qdq", "1")
        content = with_float_products(onnx.load_from_string(content)).SerializeToString()
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


def network_metrics(
    trained: TrainedRun,
    arch: Arch,
    network: Network,
    batch: int | None,
    metrics: Mapping[str, Metric],
    split: SplitName = "validation",
) -> dict[str, float]:
    """Metrics of the network of a subnet on a split."""
    size = trained.space.image_size(float_arch(trained.space, arch))
    batches = eval_batches(trained.dataset, split, size, CHUNK)
    accumulators = Accumulators(metrics, f"the subnet {arch.id} as deployed")
    for images, targets in batches:
        accumulators.update(torch.from_numpy(in_batches(network, images, batch)), targets)
    return accumulators.results()
