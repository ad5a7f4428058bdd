"""Blocks and coupled channels of a network."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from torch import nn

from nas.importing.torch_model.lowering import IMAGES, Layer
from search_spaces.operators import ACTIVATIONS

GIVES_NEW_CHANNELS = ("concat", "slice", "channel_shuffle")
"""Operators without weights whose channels are not those of their input, one by one."""


@dataclass
class Channels:
    """Coupled channels: tensors whose channels must be dropped together."""

    members: list[int] = field(default_factory=list)
    """Layers whose outputs have these channels."""
    writers: list[int] = field(default_factory=list)
    """Layers that set their number."""
    readers: list[int] = field(default_factory=list)
    """Layers that read all of them and write others."""
    unit: int = 1
    """Size of the groups of a grouped convolution: only whole groups can be dropped."""
    fixed: str = ""
    """Why their number cannot change; empty: it can."""

    def has_sum(self, layers: Sequence[Layer]) -> bool:
        """Whether a sum has these channels: they are those of a residual stream."""
        return any(layers[i].op == "add" for i in self.members)


def coupled_channels(layers: Sequence[Layer]) -> list[Channels]:
    """The groups of coupled channels of a network, by union-find; each layer's output belongs to one."""
    parent: dict[int, int] = {i: i for i in range(IMAGES, len(layers))}
    fixed: dict[int, str] = {}
    units: dict[int, int] = {}

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for i, layer in enumerate(layers):
        if layer.dense:
            continue
        if layer.op in GIVES_NEW_CHANNELS or "channels" in layer.fields:
            text = (
                "in a grouped convolution that changes their number" if layer.heavy else f"read by {layer.op}"
            )
            fixed |= dict.fromkeys((*layer.inputs, i), f"{text} ({layer.path})")
            continue
        for j in layer.inputs:
            parent[root(j)] = root(i)
        if "group_size" in layer.fields:
            units[i] = layer.fields["group_size"]
    fixed |= {IMAGES: "channels of the images", len(layers) - 1: "outputs of the network"}
    groups: dict[int, Channels] = {}
    for i in range(IMAGES, len(layers)):
        group = groups.setdefault(root(i), Channels())
        group.fixed = group.fixed or fixed.get(i, "")
        group.unit = math.lcm(group.unit, units.get(i, 1))
        if i != IMAGES:
            group.members.append(i)
            if layers[i].dense:
                group.writers.append(i)
    for i, layer in enumerate(layers):
        if layer.dense:
            groups[root(layer.inputs[0])].readers.append(i)
    return list(groups.values())


@dataclass
class Segment:
    """A run of layers between two single tensors."""

    start: int
    end: int
    """Index after the last layer."""
    skippable: bool = False
    """Whether its output is the sum of its input and a branch, so that it can be left out."""

    @property
    def layers(self) -> range:
        """Indices of its layers."""
        return range(self.start, self.end)


def segments(layers: Sequence[Layer], keep_whole: Sequence[str] = ()) -> list[Segment]:
    """The blocks of a network, each with at least one convolution or linear layer.

    Args:
        layers: the layers of the network.
        keep_whole: names of layers; segments with one of them are not skippable.
    """
    found = list(_cut(layers))
    for segment in found:
        segment.skippable = _is_skippable(layers, segment) and not any(
            layers[i].path in keep_whole for i in segment.layers
        )
    joined = _join_light(layers, found)
    return _join_modules(layers, joined)


def _cut(layers: Sequence[Layer]) -> Iterator[Segment]:
    """Cut wherever all later layers read nothing before the current tensor."""
    earliest = len(layers)
    cuts = []
    for i in range(len(layers) - 1, -1, -1):
        if earliest >= i:
            cuts.append(i + 1)
        earliest = min(earliest, *layers[i].inputs)
    start = 0
    for end in reversed(cuts):
        yield Segment(start, end)
        start = end


def _is_skippable(layers: Sequence[Layer], segment: Segment) -> bool:
    end = segment.end - 1
    while layers[end].op in ACTIVATIONS and end > segment.start:
        end = layers[end].inputs[0]
    source = segment.start - 1
    return layers[end].op == "add" and source in layers[end].inputs and segment.start > 0


def _is_heavy(layers: Sequence[Layer], segment: Segment) -> bool:
    return any(layers[i].heavy for i in segment.layers)


def _join_light(layers: Sequence[Layer], found: Sequence[Segment]) -> list[Segment]:
    """Join segments without products with their neighbours.

    Activations join the segment before. Others do too, unless that one is skippable or they reduce a feature
    map to a vector: then they join the next one.
    """
    joined: list[Segment] = []
    waiting: Segment | None = None
    for segment in found:
        if waiting is not None:
            segment = Segment(waiting.start, segment.end)
            waiting = None
        light = not _is_heavy(layers, segment)
        activations = all(layers[i].op in ACTIVATIONS for i in segment.layers)
        if not light:
            joined.append(segment)
        elif joined and (activations or not (joined[-1].skippable or _reduces(layers, segment))):
            joined[-1].end = segment.end
        else:
            waiting = segment
    if waiting is not None:
        joined[-1].end, joined[-1].skippable = waiting.end, False
    return joined


def _reduces(layers: Sequence[Layer], segment: Segment) -> bool:
    return layers[segment.end - 1].output.pixels == 1 < layers[segment.start - 1].output.pixels


def _join_modules(layers: Sequence[Layer], found: Sequence[Segment]) -> list[Segment]:
    """Join neighbours that are parts of the same module, such as an inverted residual without shortcut."""
    owners = _block_modules(layers, found)
    joined: list[Segment] = []
    previous = ""
    for segment in found:
        of_layers = {owners.get(i, "") for i in segment.layers if layers[i].heavy}
        owner = of_layers.pop() if len(of_layers) == 1 else ""
        if owner and owner == previous and not segment.skippable:
            joined[-1].end = segment.end
        else:
            joined.append(segment)
        previous = owner
    return joined


def _block_modules(layers: Sequence[Layer], found: Sequence[Segment]) -> dict[int, str]:
    """For each layer, the outermost module that is a block.

    A block is a module with at least two and at most half of the convolutions and linear layers, none of them
    in a skippable segment; it is not a sequence of modules.
    """
    heavy = [i for i, layer in enumerate(layers) if layer.heavy]
    counts = Counter(path for i in heavy for path, _ in layers[i].owners)
    skippable = {i for segment in found if segment.skippable for i in segment.layers}
    excluded = {path for i in skippable for path, _ in layers[i].owners}
    owners = {}
    for i in heavy:
        for path, kind in layers[i].owners:
            sequence = issubclass(kind, nn.Sequential | nn.ModuleList)
            if not sequence and path not in excluded and 2 <= counts[path] <= len(heavy) / 2:
                owners[i] = path
                break
    return owners
