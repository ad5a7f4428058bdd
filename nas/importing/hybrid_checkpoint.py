"""Loading of supernets of NASViT and ElasticViT."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

import search_spaces
from nas.importing.fit import first_set, match, read_sets
from nas.importing.hybrid_sources import SOURCES, FilePart, Shape, Tensors
from nas.torch_backend.supernet import Supernet
from search_spaces.families.hybrid import HybridConfig, HybridSpace


def load_hybrid(source: str, path: str | Path, space_name: str, key: str | None = None) -> Supernet:
    """Load a checkpoint as `nas.importing.importers.load_supernet` does.

    The supernet has the choices of the space and the number of classes of the file.
    """
    tool, config = SOURCES[source], search_spaces.get(space_name).config
    if not isinstance(config, HybridConfig):
        raise ValueError(
            f"the space of a checkpoint of {source} must be of the family hybrid, got {space_name!r} of the "
            f"family {config.family!r}"
        )
    sets = read_sets(path, key)
    key, tensors = first_set(sets, tool.keys, tool.ends, str(path))
    space = HybridSpace(config.model_copy(update={"outputs": _outputs(tensors.get(tool.ends[-1]), config)}))
    supernet = Supernet(space)
    shapes = {name: tuple(tensor.shape) for name, tensor in supernet.state_dict().items()}
    parts = {name: tool.part(space, name, shape, tensors) for name, shape in shapes.items()}
    expected = _expected(parts)
    names = {name: name for name in expected}
    read = match({key: sets[key]}, str(path), expected, names, tool.unused)
    supernet.load_state_dict(
        {name: _value(source, name, shapes[name], part, read) for name, part in parts.items()}
    )
    return supernet.eval()


def _outputs(classifier: torch.Tensor | None, config: HybridConfig) -> int:
    """Number of classes of the file, if it has a classifier."""
    return config.outputs if classifier is None or not len(classifier) else len(classifier)


def _expected(parts: Mapping[str, FilePart]) -> dict[str, torch.Tensor]:
    """The tensors that a file must have by name, without their values."""
    shapes = {name: shape for part in parts.values() for name, shape in part.shapes.items()}
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


def _value(source: str, name: str, shape: Shape, part: FilePart, read: Tensors) -> torch.Tensor:
    """A tensor of the file, cut to its first entries in the shape of this toolkit.

    Raises:
        ValueError: the tensor of the file is too small.
    """
    tensor = part.value(read)
    if any(have < need for have, need in zip(tensor.shape, shape, strict=True)):
        raise ValueError(
            f"{', '.join(part.shapes)} of {source} must have at least the size {shape} of {name} in the "
            f"space, got {tuple(tensor.shape)}"
        )
    return tensor[tuple(map(slice, shape))]
