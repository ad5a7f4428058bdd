"""Divides the layers of a network into blocks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import nn

from nas.importing.torch_model.lowering import Layer
from search_spaces.operators import ACTIVATIONS as PLAIN_ACTIVATIONS

ACTIVATIONS = (*PLAIN_ACTIVATIONS, "prelu")
"""Elementwise functions."""


@dataclass
class Segment:
    """Consecutive layers with one input tensor and one output tensor."""

    start: int
    end: int
    """Index after the last layer."""
    skippable: bool = False
    """Whether the output is the sum of the input and a branch, so that the segment can be left out."""

    @property
    def layers(self) -> range:
        """Indices of the layers of the segment."""
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
    """Cut after each layer whose output is the only earlier tensor that later layers read."""
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
    """Join segments without convolutions and linear layers with their neighbours.

    Activations join the previous segment. Other segments do too, unless the previous segment is skippable or
    they reduce a feature map to a vector; then they join the next segment.
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
