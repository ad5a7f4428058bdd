"""The model card: how to use an exported file, and where it comes from."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from nas.data.dataset import Dataset
from nas.evaluation.deployed import CALIBRATION_IMAGES, Target
from nas.evaluation.trained_run import TrainedRun
from nas.export import reference_reader
from nas.onnx_backend.precision import INT8, blocks_in
from nas.runs.folder import Folder
from nas.runs.records import now, versions
from search_spaces import Arch
from search_spaces.block_precision import precision_of
from search_spaces.precision_space import PrecisionSpace, space_of

CARD_SCHEMA_VERSION = 1
READER = "preprocess.py"
"""Python file next to the cards; its function `network_input` reads an image file as a card describes it."""


def model_card(
    trained: TrainedRun,
    arch: Arch,
    target: Target,
    metrics: Mapping[str, float],
    fp32_metrics: Mapping[str, float],
) -> dict[str, Any]:
    """The card of a subnet in the precision of its target.

    Args:
        trained: the run.
        arch: the subnet.
        target: precision and batch of the file.
        metrics: metrics on the validation split in the precision of the target.
        fp32_metrics: metrics on the validation split in fp32.
    """
    space = space_of(trained.space, arch)
    card = {
        "schema_version": CARD_SCHEMA_VERSION,
        "arch_id": arch.id,
        "arch": dict(arch),
        "space": space.name,
        "dataset": trained.info.dataset,
        **trained.task.card(trained.dataset),
        "resolution": arch["resolution"],
        "preprocess": trained.dataset.preprocess.card(space.image_size(arch)),
        "measured_on": _images_of(trained.dataset),
        "batch": target.batch or "dynamic",
        "precision": target.precision,
        "calibration": trained.evaluator().key,
        "validation_metrics": dict(metrics),
        "fp32_validation_metrics": dict(fp32_metrics),
        "macs": space.macs(arch),
        "params": space.params(arch),
        "created": now(),
        "versions": versions(),
    }
    if INT8 in map(precision_of, blocks_in(space, arch, target.precision)):
        card |= {
            "int8_for": target.instruction_set,
            "int8_ranges": target.ranges,
            "int8_calibration_images": CALIBRATION_IMAGES,
        }
    if isinstance(space, PrecisionSpace):
        card["precision_of_blocks"] = space.precisions(arch)
    return card


def metadata_text(card: Mapping[str, Any]) -> dict[str, str]:
    """The card as metadata of an ONNX file: text stays as it is, all other values become JSON."""
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in card.items()}


def write_card(folder: Folder, name: str, card: Mapping[str, Any]) -> None:
    """Write a card and, in the same folder, the code `READER`, which reads images as the card describes."""
    folder.write_json(f"{name}.json", card)
    folder.write_text(READER, inspect.getsource(reference_reader))


def _images_of(dataset: Dataset) -> str:
    """Description of the images of a data set before preprocessing."""
    images = dataset.split("validation").images
    if not isinstance(images, np.ndarray):
        return "images that are opened one at a time"
    shape = " x ".join(map(str, images.shape[1:]))
    return f"arrays of 8-bit pixels in memory, {shape} each: nothing was decoded or turned"
