"""Loading of vision transformers: supernets of AutoFormer and PreNAS, networks of torchvision and timm.

A single network becomes the largest subnet of an elastic space.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

import search_spaces
from nas.importing.fit import first_set, match, read_sets
from nas.importing.vit_names import ViTNames
from nas.importing.vit_sources import SOURCES, Tensors, ViTSource, names_in_file, patch_grid
from nas.torch_backend.supernet import Supernet
from search_spaces.families.vit import ViTSpace
from search_spaces.families.vit_config import ViTConfig

_log = logging.getLogger("nas")
PATCH, LEARNED_TOKENS = "stem.patch.weight", "stem.prefix.weight"
GRID, OTHER_POSITIONS = "stem.position.grid", "stem.position.prefix"


def load_vit(source: str, path: str | Path, space_name: str, key: str | None = None) -> Supernet:
    """Load a checkpoint as `nas.importing.importers.load_supernet` does.

    The supernet has the choices of the space. All other properties of the network, such as LayerScale,
    registers and the number of classes, are taken from the file.
    """
    tool, config = SOURCES[source], search_spaces.get(space_name).config
    if not isinstance(config, ViTConfig):
        raise ValueError(
            f"the space of a checkpoint of {source} must be of the family vit, got {space_name!r} of the "
            f"family {config.family!r}"
        )
    sets = {key: _current(tensors, tool, config) for key, tensors in read_sets(path, key).items()}
    key, tensors = first_set(sets, tool.keys, tool.names.outside_blocks, str(path))
    target = config.model_copy(update=tool.network(config, tensors))
    names, file = names_in_file(tool.names, target), _network_in_file(tool, target, tensors)
    expected = _expected(file, names, source)
    read = match({key: sets[key]}, str(path), expected, {name: name for name in expected}, tool.unused)
    supernet = Supernet(ViTSpace(target))
    shapes = {name: tensor.shape for name, tensor in supernet.state_dict().items()}
    supernet.load_state_dict(_converted(read, file, shapes, names, tool))
    return supernet.eval()


def _current(tensors: Tensors, tool: ViTSource, config: ViTConfig) -> dict[str, Tensor]:
    """The tensors, with the names and shapes of the current version of the tool."""
    result = {}
    for name, tensor in tensors.items():
        new_name = name
        for pattern, replacement in tool.spellings.items():
            new_name = re.sub(pattern, replacement, new_name)
        if name.endswith(str(tool.names.of(PATCH))) and tensor.ndim == 2:  # a linear layer on patches
            shape = (config.channels, config.patch, config.patch)
            tensor = tensor.unflatten(1, shape) if tensor.shape[1] == math.prod(shape) else tensor
        result[name if new_name in tensors else new_name] = tensor
    return dict(tool.rewrite(result))


def _network_in_file(tool: ViTSource, target: ViTConfig, tensors: Tensors) -> ViTConfig:
    """The network in the file, which may have wider tokens and another resolution than the space."""
    update: dict[str, tuple[int, ...]] = {}
    if tool.wider:
        update["width"] = (max(target.heads[-1] * target.head_dim, target.width[-1]),)
    if tool.resample and target.position != "none":
        prefix = target.prefix if target.position == "all" else 0
        side = patch_grid(tensors.get(tool.names.positions), prefix)
        if side:
            update["resolutions"] = (side * target.patch,)
    return target.model_copy(update=update)


def _shapes(config: ViTConfig) -> dict[str, tuple[int, ...]]:
    """Shapes of the weights of a network, by the names of this toolkit."""
    space = ViTSpace(config)
    nodes = [node for block in space.blocks(space.largest) for node in block.nodes]
    return {f"{node.path}.{name}": p.shape for node in nodes for name, p in node.parameters.items()}


def _expected(file: ViTConfig, names: ViTNames, source: str) -> dict[str, Tensor]:
    """The tensors that a file must have by name, without their values."""
    result: dict[str, tuple[int, ...]] = {}
    for name, shape in _shapes(file).items():
        if name == LEARNED_TOKENS:
            registers = shape[0] - 1 if names.registers else 0
            result[names.class_token] = (1, shape[0] - registers, shape[1])
            if names.registers and registers:
                result[names.registers] = (1, registers, shape[1])
        elif name == GRID:
            prefix = file.prefix if file.position == "all" else 0
            result[names.positions] = (1, prefix + shape[0] * shape[1], shape[2])
        elif name != OTHER_POSITIONS:
            published = names.of(name)
            if published is None:
                raise ValueError(
                    f"checkpoints of {source} have no tensor for {name}, which the space {file.name!r} has"
                )
            result[published] = shape
    return {name: torch.empty(shape, device="meta") for name, shape in result.items()}


def _converted(
    read: Tensors, file: ViTConfig, shapes: Mapping[str, torch.Size], names: ViTNames, tool: ViTSource
) -> dict[str, Tensor]:
    """The weights by the names of this toolkit, with the shapes `shapes` of the supernet."""
    result = {}
    for name, shape in shapes.items():
        if name == LEARNED_TOKENS:
            tokens = [names.class_token, *([names.registers] if names.registers in read else [])]
            tensor = torch.cat([read[str(token)][0] for token in tokens])
        elif name in (GRID, OTHER_POSITIONS):
            prefix = file.prefix if file.position == "all" else 0
            tensor = read[names.positions][0]
            tensor = tensor[:prefix] if name == OTHER_POSITIONS else _grid(tensor[prefix:], shape, tool)
        else:
            tensor = read[str(names.of(name))]
            if name.endswith((".qkv.weight", ".qkv.bias")):
                tensor = _grouped(tensor, tool, name.rpartition(".")[2])
        result[name] = tensor[tuple(map(slice, shape))]
    return result


def _grouped(tensor: Tensor, tool: ViTSource, name: str) -> Tensor:
    """The tensor with the rows of queries, keys and values one after the other, not interleaved."""
    if name not in tool.interleaved:
        return tensor
    grouped: Tensor = tensor.unflatten(0, (-1, 3)).transpose(0, 1).flatten(0, 1)
    return grouped


def _grid(positions: Tensor, shape: torch.Size, tool: ViTSource) -> Tensor:
    """Positions of patches (n, channels) as a grid of the given shape, resampled if necessary."""
    side = patch_grid(positions[None], 0)
    assert side
    grid: Tensor = positions.unflatten(0, (side, side))
    size = (shape[0], shape[1])
    if grid.shape[:2] == size:
        return grid
    assert tool.resample
    _log.info("positions of %d x %d patches resampled to %d x %d", side, side, *size)
    return tool.resample(grid, size)
