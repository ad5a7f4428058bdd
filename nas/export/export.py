"""Chosen subnets as files that are deployed, each checked against torch, with a card beside it."""

from __future__ import annotations

import inspect
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from nas.data.batches import eval_batches
from nas.data.dataset import Dataset
from nas.evaluation.deployed import Network, in_batches, open_onnx
from nas.evaluation.trained_run import TrainedRun
from nas.export import reference_reader
from nas.onnx_backend import onnx_graph
from nas.onnx_backend.precision import FP32
from nas.runs.files import ONNX, TORCH
from nas.runs.folder import Folder
from nas.runs.records import now, versions
from nas.torch_backend.static import StaticNet
from search_spaces import Arch

CARD_SCHEMA_VERSION = 1
READER = "preprocess.py"
"""Beside the cards; `network_input` in it reads an image file as a card says."""
CHECKED_IMAGES = 64
TOLERANCE = 1e-4
"""Largest difference between exported and torch logits, in units of the largest logit (at least 1): above the
float32 rounding of the deepest networks (2e-5), far below what a wrong graph does."""


@dataclass(frozen=True)
class Exported:
    """One exported subnet."""

    arch: Arch
    path: Path
    max_difference: float
    """Largest absolute difference on validation images between its logits and torch's in fp32."""
    precision: str
    metrics: Mapping[str, float]
    """On the validation split, in this precision."""
    fp32_metrics: Mapping[str, float]


@dataclass(frozen=True)
class Format:
    """A kind of file that a subnet is exported to."""

    suffix: str
    write: Callable[[TrainedRun, Arch, StaticNet, int | None, Mapping[str, Any]], bytes]
    """Makes the file's content from run, arch, recalibrated network, batch (None: dynamic) and card."""
    load: Callable[[bytes], Network]
    """Reads such content."""
    card_suffix: str
    """What stands between the id and `.json` in the name of the card."""


def export(
    trained: TrainedRun,
    arch: Arch,
    *,
    format: str = "onnx",
    batch: int | None = 1,
    device: str | None = None,
    out: Path | None = None,
    extra: Mapping[str, Any] | None = None,
) -> Exported:
    """Write one subnet, with recalibrated batch norms, to a folder of the run.

    Args:
        trained: the run.
        arch: the subnet.
        format: a key of `FORMATS`.
        batch: images at a time; None: decided at run time.
        device: that the file is for; it has a folder of its own in `exports`.
        out: the folder to write to instead.
        extra: further entries of the card, such as the device and the predicted latency.

    Raises:
        ValueError: unknown format, an arch outside the space, or a file whose outputs differ from torch's.
    """
    if format not in FORMATS:
        raise ValueError(f"format must be one of {sorted(FORMATS)}, got {format!r}")
    kind = FORMATS[format]
    net = trained.evaluator().subnet(arch)
    card = model_card(trained, arch, batch) | dict(extra or {})
    content = kind.write(trained, arch, net, batch, card)
    difference = _check(trained, arch, net, kind.load(content), batch)
    folder, stem = trained.run.exports(device, out), file_stem(arch, batch)
    folder.write_bytes(f"{stem}{kind.suffix}", content)
    write_card(folder, f"{stem}{kind.card_suffix}", card | {"max_difference_to_torch": difference})
    metrics = card["validation_metrics"]
    return Exported(arch, folder.file(f"{stem}{kind.suffix}"), difference, FP32, metrics, metrics)


def file_stem(arch: Arch, batch: int | None) -> str:
    """Name of an arch's files without the suffix; those with a dynamic batch do not replace the others."""
    return arch.id if batch else f"{arch.id}.dynamic"


def model_card(trained: TrainedRun, arch: Arch, batch: int | None) -> dict[str, Any]:
    """All that a deployer needs to use the file and to know where it comes from."""
    space, evaluator = trained.space, trained.evaluator()
    return {
        "schema_version": CARD_SCHEMA_VERSION,
        "arch_id": arch.id,
        "arch": json.loads(arch.to_json()),
        "space": space.name,
        "dataset": trained.info.dataset,
        **trained.task.card(trained.dataset),
        "resolution": arch["resolution"],
        "preprocess": trained.dataset.preprocess.card(space.image_size(arch)),
        "measured_on": _images_of(trained.dataset),
        "batch": batch or "dynamic",
        "precision": FP32,
        "calibration": evaluator.calibration.key,
        "validation_metrics": evaluator([arch], "export")[0],
        "macs": space.macs(arch),
        "params": space.params(arch),
        "created": now(),
        "versions": versions(),
    }


def _images_of(dataset: Dataset) -> str:
    """What the images of a data set are before preprocessing."""
    images = dataset.split("validation").images
    if not isinstance(images, np.ndarray):
        return "images that are opened one at a time"
    shape = " x ".join(map(str, images.shape[1:]))
    return f"arrays of 8-bit pixels in memory, {shape} each: nothing was decoded or turned"


def write_card(folder: Folder, name: str, card: Mapping[str, Any]) -> None:
    """Write a card, and beside all cards a program that reads images as they say."""
    folder.write_json(f"{name}.json", card)
    folder.write_text(READER, inspect.getsource(reference_reader))


def metadata_text(card: Mapping[str, Any]) -> dict[str, str]:
    """The card as an ONNX file's metadata: plain text as it is, everything else as JSON."""
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in card.items()}


def _check(
    trained: TrainedRun,
    arch: Arch,
    net: StaticNet,
    exported: Network,
    batch: int | None,
) -> float:
    """Largest absolute difference of the logits on validation images.

    Raises:
        ValueError: it is too large.
    """
    size = trained.space.image_size(arch)
    images, _ = next(iter(eval_batches(trained.dataset, "validation", size, CHECKED_IMAGES)))
    with torch.no_grad():
        expected = net(images).numpy()
    got = in_batches(exported, images, batch)
    difference = float(np.abs(got - expected).max())
    allowed = TOLERANCE * max(1.0, float(np.abs(expected).max()))
    if not difference <= allowed:
        raise ValueError(
            f"the exported subnet {arch.id} computes other outputs than torch: largest difference "
            f"{difference:.2e}, allowed {allowed:.2e}; nothing was written"
        )
    return difference


def _write_onnx(
    trained: TrainedRun, arch: Arch, net: StaticNet, batch: int | None, card: Mapping[str, Any]
) -> bytes:
    content = onnx_graph.serialize(
        trained.space.blocks(arch), net.weights(), batch=batch, metadata=metadata_text(card)
    )
    onnx.checker.check_model(content, full_check=True)
    return content


def _write_torch(
    trained: TrainedRun, arch: Arch, net: StaticNet, batch: int | None, card: Mapping[str, Any]
) -> bytes:
    side = trained.space.image_size(arch)
    size = (batch or 2, trained.space.config.channels, side, side)
    dynamic = ({0: torch.export.Dim("batch", min=1)},) if batch is None else None
    program = torch.export.export(net, (torch.zeros(size),), dynamic_shapes=dynamic)
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files={"card.json": json.dumps(card)})
    return buffer.getvalue()


def _load_torch(content: bytes) -> Network:
    program = torch.export.load(io.BytesIO(content)).module()

    def run(images: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.no_grad():
            logits: NDArray[np.float32] = program(torch.from_numpy(images)).numpy()
        return logits

    return run


FORMATS: Mapping[str, Format] = {
    "onnx": Format(ONNX, _write_onnx, open_onnx, ""),
    "torch": Format(TORCH, _write_torch, _load_torch, ".pt2"),
}
"""Kinds of files by name; `torch` is loaded by `torch.export.load`, with torch alone."""
