"""Choices of a converted network, and its space file."""

from __future__ import annotations

import fnmatch
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from nas.importing.torch_model.lowering import Layer
from nas.importing.torch_model.structure import Segment, segments
from nas.torch_backend.coupled_channels import Channels, coupled_channels, parts
from search_spaces.arch import Value
from search_spaces.building import make_divisible
from search_spaces.choices import Kind
from search_spaces.families.traced_config import OUTPUTS, BlockRow, ChoiceRow, NodeRow, TracedConfig
from search_spaces.tensors import TensorSpec

ELASTIC = ("expand", "heads", "depth", "width", "kernel")
"""Kinds of choices that a conversion can create, in addition to the resolution."""
DEFAULT_ELASTIC = ("expand", "heads", "depth")


@dataclass(frozen=True)
class Options:
    """Which parts of a network become elastic."""

    elastic: tuple[str, ...] = DEFAULT_ELASTIC
    """Kinds of choices: `expand`, the channels inside blocks and between two layers without a shortcut;
    `heads` of attention; `depth`; `width`, the channels of residual streams; `kernel`, the kernel sizes of
    depthwise convolutions."""
    ratios: tuple[float, ...] = (0.5, 0.75, 1.0)
    """Options for the share of channels; the last one is 1."""
    divisor: int = 8
    """Channels are rounded to multiples of this, if the layer has that many."""
    keep: tuple[str, ...] = ()
    """Patterns of names of modules that are not made elastic."""

    def __post_init__(self) -> None:
        unknown = sorted(set(self.elastic) - set(ELASTIC))
        if unknown:
            raise ValueError(f"elastic must be some of {', '.join(ELASTIC)}, got {', '.join(unknown)}")
        if not all(0 < ratio <= 1 for ratio in self.ratios):
            raise ValueError(f"ratios must be above 0 and at most 1, got {self.ratios}")

    def keeps(self, path: str) -> bool:
        """Whether a layer must not become elastic."""
        parents = itertools.accumulate(path.split("."), lambda a, b: f"{a}.{b}")
        return any(fnmatch.fnmatchcase(name, pattern) for name in parents for pattern in self.keep)


@dataclass
class Place:
    """A block and its position in the network."""

    segment: Segment
    name: str
    stage: int | None = None
    block: int | None = None
    depth: str | None = None
    position: int = 0


@dataclass(frozen=True)
class Plan:
    """The space of a converted network."""

    config: TracedConfig
    fixed: tuple[tuple[str, str], ...]
    """Names of the layers whose output channels are not elastic, with the reasons."""


def plan(
    layers: Sequence[Layer],
    options: Options,
    *,
    name: str,
    origin: str,
    resolutions: Sequence[int],
    channels: int,
) -> Plan:
    """Choose the elastic parts of a network.

    Args:
        layers: the layers, for the largest of `resolutions`.
        options: which parts become elastic.
        name: name of the space.
        origin: description of the network for readers of the space file.
        resolutions: sides of the images, in pixels.
        channels: channels of the images.

    Raises:
        ValueError: no part of the network is elastic, or a pattern of `options.keep` matches no module.
    """
    groups = coupled_channels([layer.node for layer in layers])
    kept = [layer.path for layer in layers if options.keeps(layer.path)]
    for pattern in options.keep:
        if not any(replace(options, keep=(pattern,)).keeps(layer.path) for layer in layers):
            raise ValueError(f"--keep {pattern} has no effect: it matches no module; leave it out")
    places = _places(layers, segments(layers, kept), options)
    widths = _Widths(layers, places, options)
    for group in groups:
        widths.decide(group)
    kernels = _kernels(layers, places, options)
    choices = [*_depth_choices(places), *widths.rows(), *(row for row, _ in kernels.values())]
    if not choices and len(resolutions) < 2:
        raise ValueError(f"{origin} must have an elastic part; {_first(widths.fixed)}")
    choices.sort(key=lambda row: (-1 if row.stage is None else row.stage, row.name.count("blocks")))
    blocks = [_block(layers, place, widths, kernels, groups) for place in places]
    config = TracedConfig(
        family="traced",
        name=name,
        origin=origin,
        outputs=layers[-1].output.channels,
        channels=channels,
        resolutions=tuple(resolutions),
        choices=tuple(choices),
        blocks=tuple(blocks),
    )
    return Plan(config, (*widths.fixed, *_not_skippable(layers, places)))


def _not_skippable(layers: Sequence[Layer], places: Sequence[Place]) -> Iterator[tuple[str, str]]:
    """Blocks of stages that no depth can skip, with the reasons."""
    for place in places:
        if place.stage is not None and place.depth is None:
            path = _common_module([layers[i].path for i in place.segment.layers if layers[i].heavy])
            if place.segment.skippable:
                yield path, "cannot be skipped: at least half of the blocks of a stage remain"
            else:
                yield path, "cannot be skipped: its output is not the sum of its input and a branch"


def _first(fixed: Sequence[tuple[str, str]]) -> str:
    return f"{fixed[0][0]}: {fixed[0][1]}" if fixed else "it has no layers with channels"


def _common_module(paths: Sequence[str]) -> str:
    """The innermost module that contains all these layers; the first layer if there is none."""
    words = [path.split(".") for path in paths]
    prefix = itertools.takewhile(lambda names: len(set(names)) == 1, zip(*words, strict=False))
    return ".".join(names[0] for names in prefix) or paths[0]


def _places(layers: Sequence[Layer], found: Sequence[Segment], options: Options) -> list[Place]:
    """Names, stages and depths of the blocks.

    The stem is everything before the first block with several convolutions; without such a block, it is the
    first block. The head is everything after the last feature map of more than one pixel. The blocks of a
    stage have outputs of one shape.
    """
    places = []
    residual = any(segment.skippable for segment in found)
    first = _first_of_body(layers, found)
    last = max(
        (i for i, s in enumerate(found) if layers[s.end - 1].output.pixels > 1), default=len(found) - 1
    )
    stage, block, shape = -1, 0, None
    counts = {"stem": 0, "head": 0}
    for i, segment in enumerate(found):
        if i < first or i > last:
            part = "stem" if i < first else "head"
            places.append(Place(segment, f"{part}.{counts[part]}" if counts[part] else part))
            counts[part] += 1
            continue
        output = layers[segment.end - 1].output
        own = (output.size, output.channels if residual else 0)
        if own != shape:
            stage, block, shape = stage + 1, 0, own
        places.append(Place(segment, f"stages.{stage}.blocks.{block}", stage, block))
        block += 1
    if "depth" in options.elastic:
        _gate(places)
    return places


def _first_of_body(layers: Sequence[Layer], found: Sequence[Segment]) -> int:
    """Index of the first segment after the stem: the first one with several convolutions, or the second."""
    several = (
        i
        for i, segment in enumerate(found)
        if i and (segment.skippable or sum(layers[j].heavy for j in segment.layers) > 1)
    )
    return next(several, 1)


def _gate(places: Sequence[Place]) -> None:
    """Assign a depth choice to the skippable blocks of each stage; the last blocks are skipped first."""
    for stage in {place.stage for place in places if place.stage is not None}:
        blocks = [place for place in places if place.stage == stage]
        skippable = [place for place in blocks if place.segment.skippable]
        fixed = len(blocks) - len(skippable)
        if max(fixed, math.ceil(len(blocks) / 2)) == len(blocks):
            continue
        for rank, place in enumerate(skippable):
            place.depth, place.position = f"stages.{stage}.depth", fixed + rank


def _depth_choices(places: Sequence[Place]) -> list[ChoiceRow]:
    rows = []
    for stage in sorted({place.stage for place in places if place.depth and place.stage is not None}):
        blocks = [place for place in places if place.stage == stage]
        fixed = sum(place.depth is None for place in blocks)
        depths = tuple(range(max(fixed, math.ceil(len(blocks) / 2)), len(blocks) + 1))
        rows.append(ChoiceRow(name=f"stages.{stage}.depth", kind="depth", options=depths, stage=stage))
    return rows


@dataclass
class _Width:
    """The channels of a group for each option of a choice."""

    choice: str
    values: tuple[int, ...]


class _Widths:
    """Decides which groups of channels have a choice."""

    def __init__(self, layers: Sequence[Layer], places: Sequence[Place], options: Options) -> None:
        self.layers, self.places, self.options = layers, places, options
        self.found: dict[int, _Width] = {}
        """Width of each elastic group by its id."""
        self.fixed: list[tuple[str, str]] = []
        self._rows: dict[str, ChoiceRow] = {}
        self._inner: dict[int, list[Channels]] = {}
        self._place_of = {i: place for place in places for i in place.segment.layers}
        self._ratios = tuple(sorted({*options.ratios, 1.0}))

    def decide(self, group: Channels) -> None:
        """Create the choice of a group, or record why it has none."""
        if not group.writers:
            return
        writer = group.writers[0]
        reason = self._reason(group)
        values = self._values(group)
        if not reason and len(set(values)) == 1:
            reason = f"{group.channels} channels in units of {group.unit} have no smaller option"
        if reason:
            self.fixed += [(self.layers[i].path, reason) for i in group.writers]
            return
        places = {id(self._place_of[i]) for i in (*group.members, *group.readers)}
        place = self._place_of[writer]
        if group.heads and len(places) == 1:
            values = tuple(sorted(set(values)))
            options = tuple(value // group.unit for value in values)
            name = f"{place.name}.heads"
            n = sum(row.kind == "heads" and row.options != options for row in self._rows_of(name))
            row = self._row(f"{name}.{n}" if n else name, "heads", options, place, gated=True)
        elif len(places) == 1:
            name = f"{place.name}.expand"
            row = self._row(name, "expand", self._ratios, place, gated=True)
        else:
            is_stream = group.has_sum([layer.node for layer in self.layers])
            values = tuple(sorted(set(values)))
            name = f"{place.name}.width"
            if is_stream and place.stage is not None:
                name = f"stages.{place.stage}.width"
            n = len(self._rows_of(name))
            row = self._row(name if not n else f"{name}.{n}", "width", values, place, gated=False)
        self._rows[row.name] = row
        self.found[id(group)] = _Width(row.name, values)

    def rows(self) -> list[ChoiceRow]:
        """The choices; expand ratios without effect on any of their groups are left out."""
        rows = []
        for row in self._rows.values():
            columns = list(zip(*(w.values for w in self.found.values() if w.choice == row.name), strict=True))
            used = [i for i, column in enumerate(columns) if column not in columns[i + 1 :]]
            if len(used) < len(columns):
                for width in self.found.values():
                    if width.choice == row.name:
                        width.values = tuple(width.values[i] for i in used)
                options = tuple(row.options[i] for i in used)
                row = row.model_copy(update={"options": options})
            rows.append(row)
        return rows

    def _rows_of(self, name: str) -> list[ChoiceRow]:
        """The choices so far whose names start with `name`."""
        return [row for row in self._rows.values() if row.name.startswith(name)]

    def _reason(self, group: Channels) -> str:
        """The reason why a group has no choice; empty if it has one."""
        kept = [self.layers[i].path for i in group.members if self.options.keeps(self.layers[i].path)]
        if group.fixed:
            return group.fixed
        if kept:
            return f"kept ({kept[0]})"
        if not group.readers:
            return "no layer reads them"
        places = {id(self._place_of[i]) for i in (*group.members, *group.readers)}
        stream = group.has_sum([layer.node for layer in self.layers]) and len(places) > 1
        if stream and "width" not in self.options.elastic:
            return "a residual stream; add the choice width"
        kind = "heads" if group.heads else "expand"
        if not stream and kind not in self.options.elastic:
            return f"the choice {kind} is off"
        return ""

    def _values(self, group: Channels) -> tuple[int, ...]:
        unit, divisor = group.unit, self.options.divisor
        return tuple(_rounded(group.channels, ratio, unit, divisor) for ratio in self._ratios)

    def _row(
        self, name: str, kind: Kind, options: tuple[Value, ...], place: Place, *, gated: bool
    ) -> ChoiceRow:
        depth, position = (place.depth, place.position) if gated else (None, 0)
        return ChoiceRow(
            name=name,
            kind=kind,
            options=options,
            stage=place.stage,
            block=place.block,
            depth=depth,
            position=position,
        )


def _rounded(full: int, ratio: float, unit: int, divisor: int) -> int:
    """A share of the channels, in multiples of `unit` and, if there are enough channels, of `divisor`."""
    if ratio == 1:
        return full
    step = math.lcm(unit, divisor)
    if step > full * ratio:
        step = unit
    return min(full, make_divisible(full * ratio, step))


def _kernels(
    layers: Sequence[Layer], places: Sequence[Place], options: Options
) -> dict[int, tuple[ChoiceRow, Mapping[str, Any]]]:
    """For each layer with an elastic kernel, its choice and the fields that depend on it."""
    found: dict[int, tuple[ChoiceRow, Mapping[str, Any]]] = {}
    if "kernel" not in options.elastic:
        return found
    for place in places:
        for i in place.segment.layers:
            layer = layers[i]
            if not _has_elastic_kernel(layer) or options.keeps(layer.path):
                continue
            kernel = layer.fields["kernel"][0]
            sizes = tuple(range(3, kernel + 1, 2))
            name = f"{place.name}.kernel"
            n = sum(row.name.startswith(name) for row, _ in found.values())
            row = ChoiceRow(
                name=f"{name}.{n}" if n else name,
                kind="kernel",
                options=sizes,
                stage=place.stage,
                block=place.block,
                depth=place.depth,
                position=place.position,
            )
            fields = {
                "kernel": {row.name: [[size, size] for size in sizes]},
                "padding": {row.name: [[size // 2] * 4 for size in sizes]},
            }
            found[i] = (row, fields)
    return found


def _has_elastic_kernel(layer: Layer) -> bool:
    """Whether a layer is a depthwise convolution whose kernel can become smaller in its centre."""
    if layer.op != "conv2d" or layer.fields.get("group_size") != 1 or "dilation" in layer.fields:
        return False
    kernel = layer.fields.get("kernel", (1, 1))[0]
    square = layer.fields.get("kernel") == (kernel, kernel)
    return square and kernel >= 5 and layer.fields.get("padding") == (kernel // 2,) * 4


def _block(
    layers: Sequence[Layer],
    place: Place,
    widths: _Widths,
    kernels: Mapping[int, tuple[ChoiceRow, Mapping[str, Any]]],
    groups: Sequence[Channels],
) -> BlockRow:
    group_of = {i: group for group in groups for i in group.members}
    start = place.segment.start
    rows = []
    for i in place.segment.layers:
        layer = layers[i]
        fields = dict(layer.fields)
        group = group_of[i]
        width = widths.found.get(id(group))
        if layer.dense and _ends_network(group, layers):
            fields["channels"] = OUTPUTS
        elif layer.dense and width:
            fields["channels"] = {width.choice: [parts(layer.node) * value for value in width.values]}
        elif layer.op in ("attention", "window_attention") and width:
            fields["heads"] = {width.choice: [value // group.unit for value in width.values]}
        fields |= kernels[i][1] if i in kernels else {}
        inputs = tuple(j - start for j in layer.inputs)
        rows.append(_node(layer, fields, () if inputs == (i - start - 1,) else inputs))
    source = layers[start - 1].output if start else None
    return BlockRow(
        name=place.name,
        channels=_input_channels(source, group_of.get(start - 1), widths),
        layout=source.layout if source else "image",
        stage=place.stage,
        depth=place.depth,
        position=place.position,
        nodes=tuple(rows),
    )


def _node(layer: Layer, fields: Mapping[str, Any], inputs: tuple[int, ...]) -> NodeRow:
    plain = {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}
    return NodeRow.model_validate({"name": layer.path, "op": layer.op, "inputs": inputs} | plain)


def _ends_network(group: Channels, layers: Sequence[Layer]) -> bool:
    return len(layers) - 1 in group.members


def _input_channels(source: TensorSpec | None, group: Channels | None, widths: _Widths) -> Any:
    """The channels of the input of a block, as in its file."""
    if source is None:
        return None
    if group is None or id(group) not in widths.found:
        return source.channels
    width = widths.found[id(group)]
    factor = source.channels // group.channels  # a flattened feature map has channels · pixels entries
    return {width.choice: [value * factor for value in width.values]}
