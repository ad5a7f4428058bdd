"""Reads any ONNX file and prepares it for a measurement."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnxruntime

from hw_profiles.measuring.bundle import LayerPrecision
from hw_profiles.measuring.runner.inputs import check_inputs
from hw_profiles.measuring.runner.model import Model
from hw_profiles.run_settings import RunSettings
from nas.devices.asked_precision import layer_precisions
from search_spaces.tensors import MIXED

Shape = tuple[int, ...]
_DECLARED = list[int | str | None]
"""Dimensions declared by a model; an open dimension is a name or None."""
_FLOATS = ("tensor(float)", "tensor(float16)", "tensor(double)")
_BATCH_NAMES = ("n", "b", "bs")


@dataclass(frozen=True)
class ModelFile:
    """A model with everything that a device needs to run the model."""

    path: Path
    content: bytes
    """The model with its external data."""
    shapes: dict[str, Shape]
    """Shapes of all inputs, by name."""
    is_open: bool
    """Whether the file leaves dimensions of its inputs open."""
    image: tuple[int, int] | None
    """Channels and size in pixels of its input images; None if the model does not read images."""
    metadata: dict[str, str]
    layers: tuple[LayerPrecision, ...]
    """The precision of each layer of a file in mixed precision that `nas export` wrote; empty for other
    files."""

    @property
    def shape(self) -> str:
        """The shapes as a text, in the syntax of `--shape`."""
        return " ".join(f"{name}={','.join(map(str, shape))}" for name, shape in self.shapes.items())

    @property
    def batch(self) -> int | None:
        """Batch size; None for models that do not read images."""
        return next((shape[0] for shape in self.shapes.values() if len(shape) == 4), None)


def parse_shapes(texts: Iterable[str]) -> dict[str, Shape]:
    """Parse shapes of inputs such as `x=1,3,224,224`.

    Raises:
        ValueError: a text has another form, or a name is repeated.
    """
    shapes: dict[str, Shape] = {}
    for text in texts:
        name, _, sizes = text.rpartition("=")
        words = [word.strip() for word in sizes.split(",")]
        if not name or not all(word.isdecimal() and int(word) > 0 for word in words):
            raise ValueError(f"--shape must be NAME=DIM,DIM,... with sizes >= 1, got {text!r}")
        if name in shapes:
            raise ValueError(f"--shape must name each input once, got {name!r} twice")
        shapes[name] = tuple(map(int, words))
    return shapes


def read_model(path: Path, batch: int, given: Mapping[str, Shape]) -> ModelFile:
    """Read a model and determine the shapes of its inputs.

    Args:
        path: an ONNX file.
        batch: batch size, for an open first dimension.
        given: shapes of inputs by name; names of inputs of other models are ignored.

    Raises:
        ValueError: the file cannot be read, an input has an unsupported type, or its shape is open or
            contradicts the given one.
    """
    session = Model(str(path), RunSettings(fallback=True).model_dump()).open()
    check_inputs(session, str(path))
    try:
        graph = onnx.load(path)
        content = graph.SerializeToString(deterministic=True)
    except Exception as error:  # the exceptions of onnx and protobuf have no common base class
        reason = " ".join(str(error).split())
        raise ValueError(f"cannot read {path} with its external data: {reason}") from None
    metadata = dict(session.get_modelmeta().custom_metadata_map)
    unranked = {i.name for i in graph.graph.input if not i.type.tensor_type.HasField("shape")}
    shapes = {}
    for declared in session.get_inputs():
        dims = None if declared.name in unranked else declared.shape
        shapes[declared.name] = _shape(path, declared.name, dims, batch, given.get(declared.name))
    return ModelFile(
        path=path,
        content=content,
        shapes=shapes,
        is_open=any(tuple(i.shape) != shapes[i.name] for i in session.get_inputs()),
        image=_image(session, shapes),
        metadata=metadata,
        layers=layer_precisions(graph) if metadata.get("precision") == MIXED else (),
    )


def _shape(path: Path, name: str, declared: _DECLARED | None, batch: int, given: Shape | None) -> Shape:
    if given is not None:
        if declared is not None and not _fits(given, declared):
            raise ValueError(
                f"--shape {name}={','.join(map(str, given))} does not fit {path}, which declares "
                f"{_text(declared)}"
            )
        return given
    if declared is None:
        raise ValueError(
            f"{path} does not declare the shape of its input {name!r}; add --shape {name}=DIM,DIM,..."
        )
    sizes = list(declared)
    if sizes and not isinstance(sizes[0], int) and _is_batch(sizes[0], len(sizes)):
        sizes[0] = batch
    known = tuple(size for size in sizes if isinstance(size, int))
    if len(known) < len(sizes):
        raise ValueError(
            f"{path} leaves the shape of its input {name!r} open: {_text(sizes)}; add --shape {name}="
            + ",".join(str(size) if isinstance(size, int) else "DIM" for size in sizes)
        )
    return known


def _is_batch(name: str | None, rank: int) -> bool:
    """Whether an open first dimension is the batch."""
    return name is None or rank == 4 or "batch" in name.lower() or name.lower() in _BATCH_NAMES


def _fits(given: Shape, declared: _DECLARED) -> bool:
    pairs = zip(given, declared, strict=False)
    return len(given) == len(declared) and all(d == g for g, d in pairs if isinstance(d, int))


def _text(declared: _DECLARED) -> str:
    return ",".join("?" if size is None else str(size) for size in declared)


def _image(session: onnxruntime.InferenceSession, shapes: Mapping[str, Shape]) -> tuple[int, int] | None:
    """Channels and size, if the only input is a batch of square images and the first output has a row for
    each."""
    inputs, output = session.get_inputs(), session.get_outputs()[0]
    if len(inputs) != 1 or {inputs[0].type, output.type} - set(_FLOATS):
        return None
    shape = shapes[inputs[0].name]
    if len(shape) != 4 or shape[2] != shape[3] or 0 in shape:
        return None
    rows = output.shape[0] if output.shape else math.nan
    return (shape[1], shape[2]) if rows in (shape[0], inputs[0].shape[0]) else None
