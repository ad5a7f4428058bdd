"""The writer of exported subnets: one file and one card each, checked against torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hw_profiles.measuring.runner.device_description import instruction_set
from nas.data.batches import eval_batches
from nas.evaluation.deployed import Network, Target, deployed_model, in_batches, network_metrics
from nas.evaluation.trained_run import TrainedRun
from nas.export.best_ranges import with_best_ranges
from nas.export.card import model_card, write_card
from nas.export.formats import FORMATS
from nas.export.layer_check import check_layers_here
from nas.export.precision_cost import Measure, latencies, warn
from nas.onnx_backend.precision import FP32, INT8, MIXED, blocks_in, check_precision
from nas.torch_backend.static import StaticNet
from search_spaces import Arch
from search_spaces.block_precision import precision_of
from search_spaces.precision_space import float_arch

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
    """Largest absolute difference on validation images between the fp32 outputs of the file and of torch."""
    precision: str
    metrics: Mapping[str, float]
    """Metrics on the validation split, in the precision of the file."""
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
    best_ranges: bool = False,
) -> Exported:
    """Write one subnet, with recalibrated batch norms, to a folder of the run.

    Layers of a mixed file must run in the precision of their blocks. This is checked if this machine has the
    instruction set that the file is for.

    Args:
        trained: the run.
        arch: the subnet. Its choices of precision are used for a file in mixed precision and ignored
            otherwise.
        target: precision, batch and processor that the file is for; None: fp32, one image, this machine.
        file_format: a key of `FORMATS`.
        device: name of the device that the file is for; each device has its own folder in `exports`.
        out: the folder to write to instead.
        extra: further entries of the card, such as the device and the predicted latency.
        measure: measures the latency of files on the target, to compare a precision other than fp32 with the
            others; None: the target cannot be reached.
        best_ranges: try all methods to find the ranges of INT8 activations, and use the best one on the
            validation split, instead of the method of the target.

    Raises:
        ValueError: unknown format or precision, no INT8 scheme for the processor, an arch outside the space,
            a file whose outputs differ from torch's, or a layer that runs in another precision than
            requested.
    """
    target = target or Target()
    check_format(file_format, target.precision)
    kind = FORMATS[file_format]
    evaluator, plain = trained.evaluator(), float_arch(trained.space, arch)
    net, fp32_metrics = evaluator.subnet_and_metrics(plain, "export")
    check = _Check(trained, plain, net, target.batch)
    fp32 = kind.build(trained.space, plain, net, target.batch)
    model, metrics, timed = fp32, fp32_metrics, {}
    if target.precision == MIXED:
        blocks_in(trained.space, arch, MIXED)  # raises if the arch chooses no precisions
    else:
        arch = plain
    if target.precision != FP32:
        check.refuse_wrong(kind.load(kind.content(fp32, {}), None))

        @cache
        def deployed(target: Target) -> bytes:
            model = deployed_model(trained, arch, target, fp32)
            # `nas benchmark` reads the precision to check the layers of a mixed file
            return kind.content(model, {"precision": target.precision})

        @cache
        def metrics_on(target: Target) -> dict[str, float]:
            network = kind.load(deployed(target), target.instruction_set)
            return network_metrics(trained, arch, network, target.batch, evaluator.metrics)

        precisions = {precision_of(block) for block in blocks_in(trained.space, arch, target.precision)}
        if best_ranges and INT8 in precisions:
            target = with_best_ranges(trained, target, metrics_on)
        model = deployed_model(trained, arch, target, fp32)
        if target.precision == MIXED and target.instruction_set == instruction_set():
            check_layers_here(model)
        metrics = metrics_on(target)
        if measure:
            compared = (FP32, INT8) if target.precision == MIXED else (FP32,)
            others = [precision for precision in compared if precisions != {precision}]
            timed = latencies(
                {p: deployed(replace(target, precision=p)) for p in (*others, target.precision)}, measure
            )
    card = model_card(trained, arch, target, metrics, fp32_metrics) | dict(extra or {})
    if timed:
        card["latency_by_precision_ms"] = timed
    content = kind.content(model, card)
    network = kind.load(content, target.instruction_set)
    difference = check.refuse_wrong(network) if target.precision == FP32 else check.difference(network)
    warn(arch.id, target.precision, trained.task, metrics, fp32_metrics, timed)
    folder, name = trained.run.exports(device, out), file_name(arch, target)
    folder.write_bytes(f"{name}{kind.suffix}", content)
    for suffix, other in kind.others(trained.space, plain, net, name).items():
        folder.write_bytes(f"{name}{suffix}", other)
    write_card(folder, f"{name}{kind.card_suffix}", card | {"max_difference_to_torch": difference})
    path = folder.file(f"{name}{kind.suffix}")
    return Exported(arch, path, difference, target.precision, metrics, fp32_metrics)


def check_format(file_format: str, precision: str) -> None:
    """Check that there are files of this format in this precision.

    Raises:
        ValueError: there are no such files.
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
        """Largest absolute difference of the outputs of a network in fp32.

        Raises:
            ValueError: the difference is too large.
        """
        difference = self.difference(network)
        allowed = TOLERANCE * max(1.0, float(np.abs(self._expected).max()))
        if not difference <= allowed:
            raise ValueError(
                f"the exported subnet {self._arch.id} computes other outputs than torch: largest difference "
                f"{difference:.2e}, allowed {allowed:.2e}; nothing was written"
            )
        return difference
