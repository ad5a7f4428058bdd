"""The writer of exported subnets: one file and one card each, checked against torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nas.data.batches import eval_batches
from nas.evaluation.deployed import Network, Target, deployed_model, in_batches, validation_metrics
from nas.evaluation.trained_run import TrainedRun
from nas.export.card import model_card, write_card
from nas.export.formats import FORMATS
from nas.export.precision_cost import Measure, latencies, warn
from nas.onnx_backend.precision import FP32, check_precision
from nas.torch_backend.static import StaticNet
from search_spaces import Arch

CHECKED_IMAGES = 64
TOLERANCE = 1e-4
"""Largest difference between fp32 outputs of the file and of torch, in units of the largest output (at least
1): above the float32 rounding of the deepest networks (2e-5), far below the error of a wrong graph."""


@dataclass(frozen=True)
class Exported:
    """One exported subnet."""

    arch: Arch
    path: Path
    max_difference: float
    """Largest absolute difference on validation images between its outputs and torch's in fp32."""
    precision: str
    metrics: Mapping[str, float]
    """On the validation split, in this precision."""
    fp32_metrics: Mapping[str, float]


def export(
    trained: TrainedRun,
    arch: Arch,
    target: Target | None = None,
    *,
    file_format: str = "onnx",
    device: str | None = None,
    out: Path | None = None,
    extra: Mapping[str, Any] | None = None,
    measure: Measure | None = None,
) -> Exported:
    """Write one subnet, with recalibrated batch norms, to a folder of the run.

    Args:
        trained: the run.
        arch: the subnet.
        target: precision, batch and processor that the file is for; None: fp32, one image, this machine.
        file_format: a key of `FORMATS`.
        device: name of the device that the file is for; each device has its own folder in `exports`.
        out: the folder to write to instead.
        extra: further entries of the card, such as the device and the predicted latency.
        measure: measures a precision other than fp32 against fp32; None: the target cannot be reached.

    Raises:
        ValueError: unknown format or precision, no INT8 scheme for the processor, an arch outside the space,
            or a file whose outputs differ from torch's.
    """
    target = target or Target()
    check_format(file_format, target.precision)
    kind = FORMATS[file_format]
    evaluator = trained.evaluator()
    net, fp32_metrics = evaluator.subnet_and_metrics(arch, "export")
    check = _Check(trained, arch, net, target.batch)
    model, metrics, timed = kind.build(trained.space, arch, net, target.batch), fp32_metrics, {}
    if target.precision != FP32:
        fp32 = kind.content(model, {})
        check.refuse_wrong(kind.load(fp32))
        model = deployed_model(trained, arch, target, model)
        plain = kind.content(model, {})
        metrics = validation_metrics(trained, arch, kind.load(plain), target.batch, evaluator.metrics)
        timed = latencies({FP32: fp32, target.precision: plain}, measure) if measure else {}
    card = model_card(trained, arch, target, metrics, fp32_metrics) | dict(extra or {})
    if timed:
        card["latency_by_precision_ms"] = timed
    content = kind.content(model, card)
    network = kind.load(content)
    difference = check.refuse_wrong(network) if target.precision == FP32 else check.difference(network)
    warn(arch.id, target.precision, trained.task, metrics, fp32_metrics, timed)
    folder, name = trained.run.exports(device, out), file_name(arch, target)
    folder.write_bytes(f"{name}{kind.suffix}", content)
    for suffix, other in kind.others(trained.space, arch, net, name).items():
        folder.write_bytes(f"{name}{suffix}", other)
    write_card(folder, f"{name}{kind.card_suffix}", card | {"max_difference_to_torch": difference})
    path = folder.file(f"{name}{kind.suffix}")
    return Exported(arch, path, difference, target.precision, metrics, fp32_metrics)


def check_format(file_format: str, precision: str) -> None:
    """Check that there are files of this format in this precision.

    Raises:
        ValueError: there are none.
    """
    if file_format not in FORMATS:
        raise ValueError(f"format must be one of {sorted(FORMATS)}, got {file_format!r}")
    check_precision(precision)
    if precision not in FORMATS[file_format].precisions:
        raise ValueError(f"a file in {precision} must have the format onnx, got {file_format}")


def file_name(arch: Arch, target: Target) -> str:
    """Name of a subnet's file without the suffix, such as `ID`, `ID.dynamic` or `ID.int8`."""
    batch = "" if target.batch else ".dynamic"
    precision = "" if target.precision == FP32 else f".{target.precision}"
    return f"{arch.id}{batch}{precision}"


class _Check:
    """Compares outputs on validation images with those of torch.

    Args:
        trained: the run.
        arch: the subnet.
        net: the recalibrated subnet in torch.
        batch: images that the exported networks take at a time; None: any number.
    """

    def __init__(self, trained: TrainedRun, arch: Arch, net: StaticNet, batch: int | None) -> None:
        size = trained.space.image_size(arch)
        self._images, _ = next(iter(eval_batches(trained.dataset, "validation", size, CHECKED_IMAGES)))
        with torch.no_grad():
            self._expected: NDArray[np.float32] = net(self._images).numpy()
        self._arch, self._batch = arch, batch

    def difference(self, network: Network) -> float:
        """Largest absolute difference of the outputs."""
        outputs = in_batches(network, self._images, self._batch)
        return float(np.abs(outputs - self._expected).max())

    def refuse_wrong(self, network: Network) -> float:
        """The same of a network in fp32.

        Raises:
            ValueError: it is too large.
        """
        difference = self.difference(network)
        allowed = TOLERANCE * max(1.0, float(np.abs(self._expected).max()))
        if not difference <= allowed:
            raise ValueError(
                f"the exported subnet {self._arch.id} computes other outputs than torch: largest difference "
                f"{difference:.2e}, allowed {allowed:.2e}; nothing was written"
            )
        return difference
