"""The kinds of files that a subnet is exported to."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import onnx
import safetensors.torch
import torch
from numpy.typing import NDArray

from nas.evaluation.deployed import Network, open_onnx
from nas.export.card import metadata_text
from nas.export.torch_source import can_be_written, torch_source
from nas.onnx_backend import onnx_graph
from nas.onnx_backend.precision import FP32, PRECISIONS
from nas.runs.files import ONNX, PYTHON, TORCH, WEIGHTS
from nas.torch_backend.static import StaticNet
from search_spaces import Arch, Space

Model = TypeVar("Model")


@dataclass(frozen=True)
class Format(Generic[Model]):
    """A kind of file."""

    suffix: str
    card_suffix: str
    """Text between the file's name and `.json` in the name of the card."""
    precisions: tuple[str, ...]
    build: Callable[[Space, Arch, StaticNet, int | None], Model]
    """The fp32 model of a recalibrated network; the last argument is the batch, None for a dynamic one."""
    content: Callable[[Model, Mapping[str, Any]], bytes]
    """Converts a model and its card to the content of the file."""
    load: Callable[[bytes, str | None], Network]
    """Loads the content of a file; the second argument is the instruction set of its INT8 values."""
    others: Callable[[Space, Arch, StaticNet, str], Mapping[str, bytes]] = lambda space, arch, net, name: {}
    """Contents of further files by suffix; the last argument is the file's name without suffix."""


def _build_onnx(space: Space, arch: Arch, net: StaticNet, batch: int | None) -> onnx.ModelProto:
    model = onnx_graph.build(space.blocks(arch), net.weights(), batch=batch)
    onnx.checker.check_model(model, full_check=True)
    return model


def _onnx_content(model: onnx.ModelProto, card: Mapping[str, Any]) -> bytes:
    onnx.helper.set_model_props(model, metadata_text(card))
    content: bytes = model.SerializeToString()
    return content


def _build_torch(space: Space, arch: Arch, net: StaticNet, batch: int | None) -> torch.export.ExportedProgram:
    side = space.image_size(arch)
    images = torch.zeros(batch or 2, space.config.channels, side, side)
    dynamic = ({0: torch.export.Dim("batch", min=1)},) if batch is None else None
    return torch.export.export(net, (images,), dynamic_shapes=dynamic)


def _torch_content(program: torch.export.ExportedProgram, card: Mapping[str, Any]) -> bytes:
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files={"card.json": json.dumps(card)})
    return buffer.getvalue()


def _torch_others(space: Space, arch: Arch, net: StaticNet, name: str) -> Mapping[str, bytes]:
    """A state dict, and Python code of the network if there is code for all of its operators."""
    block = space.network(arch)
    if not can_be_written(block):
        return {}
    weights = {key: tensor.detach().cpu().contiguous() for key, tensor in net.state_dict().items()}
    code = torch_source(block, f"Subnet {arch.id} of {space.name}.", f"{name}{WEIGHTS}")
    return {WEIGHTS: safetensors.torch.save(weights), PYTHON: code.encode()}


def _load_torch(content: bytes, written_for: str | None) -> Network:
    program = torch.export.load(io.BytesIO(content)).module()

    def run(images: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.no_grad():
            outputs: NDArray[np.float32] = program(torch.from_numpy(images)).numpy()
        return outputs

    return run


FORMATS: Mapping[str, Format[Any]] = {
    "onnx": Format(ONNX, "", PRECISIONS, _build_onnx, _onnx_content, open_onnx),
    "torch": Format(TORCH, TORCH, (FP32,), _build_torch, _torch_content, _load_torch, _torch_others),
}
"""Formats by name. Files of the format `torch` are read by `torch.export.load`, which needs only torch."""
