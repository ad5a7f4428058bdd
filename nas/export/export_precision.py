"""Exports in a precision below fp32, with what that costs in accuracy and brings in latency."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx

from hw_profiles.connections.base import NotMeasuredError
from nas.data.batches import eval_batches
from nas.evaluation.deployed import (
    CALIBRATION_IMAGES,
    Network,
    Target,
    deployed_model,
    fp32_model,
    in_batches,
    open_onnx,
    validation_metrics,
)
from nas.evaluation.trained_run import TrainedRun
from nas.export.export import CHECKED_IMAGES, Exported, file_stem, metadata_text, model_card, write_card
from nas.onnx_backend.precision import FP32, INT8
from search_spaces import Arch

Measure = Callable[[Sequence[Path]], list[float]]
"""Latencies of ONNX files on the target, ms."""
LARGE_LOSS = 0.01
"""Of top-1; more is worth a warning."""
_log = logging.getLogger("nas")


def export_lower(
    trained: TrainedRun,
    arch: Arch,
    target: Target,
    *,
    device: str | None = None,
    out: Path | None = None,
    extra: Mapping[str, Any] | None = None,
    measure: Measure | None = None,
) -> Exported:
    """Write one subnet to a folder of the run, evaluated in its precision by ONNX Runtime.

    Args:
        trained: the run.
        arch: the subnet.
        target: its precision is not fp32.
        device: that the file is for; it has a folder of its own in `exports`.
        out: the folder to write to instead.
        extra: further entries of the card.
        measure: compares the latency with that in fp32; None: the target is not at hand.

    Raises:
        ValueError: no such precision, no INT8 scheme for the instruction set, or an arch outside the space.
    """
    fp32 = fp32_model(trained, arch, target.batch)
    model = deployed_model(trained, arch, target, fp32)
    network = open_onnx(model.SerializeToString())
    evaluator = trained.evaluator()
    before = evaluator([arch], "export")[0]
    after = validation_metrics(trained, arch, network, target.batch, evaluator.measurement.metrics)
    card = model_card(trained, arch, target.batch) | {
        "precision": target.precision,
        "validation_metrics": after,
        "fp32_validation_metrics": before,
    }
    if target.precision == INT8:
        card |= {"int8_for": target.instruction_set, "int8_calibration_images": CALIBRATION_IMAGES}
    if measure:
        card["latency_by_precision_ms"] = _latencies({FP32: fp32, target.precision: model}, measure)
    _warn(card)
    card |= dict(extra or {})
    onnx.helper.set_model_props(model, metadata_text(card))
    difference = _difference(trained, arch, network, open_onnx(fp32.SerializeToString()), target.batch)
    folder, name = trained.run.exports(device, out), f"{file_stem(arch, target.batch)}.{target.precision}"
    folder.write_bytes(f"{name}.onnx", model.SerializeToString())
    write_card(folder, name, card | {"max_difference_to_fp32": difference})
    return Exported(arch, folder.file(f"{name}.onnx"), difference, target.precision, after, before)


def _latencies(models: Mapping[str, onnx.ModelProto], measure: Measure) -> dict[str, float]:
    """By precision, ms; empty where a person would have to carry the files to the target."""
    with TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{precision}.onnx" for precision in models]
        for path, model in zip(paths, models.values(), strict=True):
            path.write_bytes(model.SerializeToString())
        try:
            return dict(zip(models, measure(paths), strict=True))
        except NotMeasuredError:
            return {}


def _difference(trained: TrainedRun, arch: Arch, network: Network, fp32: Network, batch: int | None) -> float:
    """Largest absolute difference of the logits on validation images."""
    size = trained.space.image_size(arch)
    images, _ = next(iter(eval_batches(trained.dataset, "validation", size, CHECKED_IMAGES)))
    return float(np.abs(in_batches(network, images, batch) - in_batches(fp32, images, batch)).max())


def _warn(card: Mapping[str, Any]) -> None:
    """Say what speaks against this precision."""
    name, precision = card["arch_id"], card["precision"]
    before, after = (card[key]["top1"] for key in ("fp32_validation_metrics", "validation_metrics"))
    if before - after > LARGE_LOSS:
        _log.warning("%s costs %s %.1f points of top-1", precision, name, 100 * (before - after))
    ms = card.get("latency_by_precision_ms")
    if ms and ms[precision] > ms[FP32]:
        _log.warning(
            "%s is slower than fp32 here for %s: %.4g ms, fp32 %.4g ms",
            precision,
            name,
            ms[precision],
            ms[FP32],
        )
