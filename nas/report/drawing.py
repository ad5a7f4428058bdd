"""A subnet as a picture (inline SVG) and as a line of text.

The code is independent of the family of the space: it reads the operators of the blocks and the choices of
the slots.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

from nas.report.markup import Html, count, escape, join
from search_spaces import Arch, Block, Slot, Space
from search_spaces import operators as ops
from search_spaces.block_precision import precision_of
from search_spaces.tensors import INT8, TensorSpec

BOX_WIDTH, BOX_GAP, STAGE_GAP = 30, 7, 8
PADDING, MIN_STAGE = 9, 54
TOP, BODY, BOTTOM = 50, 104, 40
MIN_BOX = 30
"""Smallest height of a box; this and all other sizes are in pixels."""
MAX_CHARACTERS = 4
"""Characters that fit into a box."""


@dataclass(frozen=True)
class Part:
    """One slot of a space and its block in an arch."""

    slot: Slot
    block: Block | None
    """The block; None if the depth of the stage leaves the slot empty."""
    options: tuple[str, ...]
    """Options of this block, such as `k5` and `e2`."""

    @property
    def title(self) -> str:
        """Title of the stage of the slot, or `stem` or `head`."""
        return self.slot.part if self.slot.stage is None else f"stage {self.slot.stage}"

    @property
    def in_int8(self) -> bool:
        """Whether the block is in INT8, if its precision is a choice."""
        return self.block is not None and precision_of(self.block) == INT8

    @property
    def text(self) -> str:
        """The options and, for INT8, `i8`."""
        return "".join(self.options) + ("i8" if self.in_int8 else "")

    @property
    def width(self) -> int:
        """Output channels of the block; in the head, the input channels of the classifier."""
        assert self.block is not None
        last = self.block.nodes[-1]
        spec = last.specs[0] if self.slot.stage is None and isinstance(last.op, ops.Linear) else last.output
        return spec.channels


def parts(space: Space, arch: Arch) -> list[Part]:
    """All slots of the space in order.

    Raises:
        ValueError: the arch is not in the space.
    """
    blocks = {block.name: block for block in space.blocks(arch)}

    def options(slot: Slot) -> tuple[str, ...]:
        choices = [space.choices[name] for name in slot.choices]
        own = [choice for choice in choices if choice.kind not in ("resolution", "width", "depth", "bits")]
        return tuple(f"{choice.kind[0]}{arch[choice.name]:g}" for choice in own)

    return [
        Part(slot, blocks.get(slot.name), options(slot) if slot.name in blocks else ())
        for slot in space.slots
    ]


def compact(space: Space, arch: Arch) -> str:
    """The arch as a line of text, `24px · 8 | 12: k3e2 k5e4 | 24: k3e1i8 | 64: i8`.

    The parts are the resolution, the stem, the stages and the head; `i8` is a block in INT8.

    Raises:
        ValueError: the arch is not in the space.
    """
    pieces = []
    for _, group in groupby(parts(space, arch), key=lambda part: part.title):
        present = [part for part in group if part.block]
        if present:
            blocks = " ".join(part.text for part in present)
            pieces.append(f"{present[-1].width}" + (f": {blocks}" if blocks else ""))
    return f"{arch['resolution']}px · " + " | ".join(pieces)


def draw(space: Space, arch: Arch) -> Html:
    """The arch as an SVG picture: a panel per stage, a box per block.

    All subnets of a space have the same scale.

    Raises:
        ValueError: the arch is not in the space.
    """
    scale = (BODY - MIN_BOX) / math.sqrt(max(_inner(block) for block in space.blocks(space.largest)))
    x, panels = 0.0, []
    for title, group in groupby(parts(space, arch), key=lambda part: part.title):
        stage = list(group)
        boxes = len(stage) * (BOX_WIDTH + BOX_GAP) - BOX_GAP
        panel = max(MIN_STAGE, boxes + 2 * PADDING)
        panels.append(_panel(title, stage, x, panel, x + (panel - boxes) / 2, scale))
        x += panel + STAGE_GAP
    total, height, middle = x - STAGE_GAP, TOP + BODY + BOTTOM, TOP + BODY / 2
    return Html(
        f'<svg class="subnet" role="img" viewBox="0 0 {total:g} {height}" width="{total:g}" '
        f'height="{height}"><title>{escape(compact(space, arch))}</title>'
        f'<line class="flow" x1="0" y1="{middle:g}" x2="{total:g}" y2="{middle:g}"/>{join(panels)}</svg>'
    )


def _panel(title: str, stage: list[Part], x: float, panel: float, left: float, scale: float) -> Html:
    """A stage: its name, its output channels, the size of its feature map, and boxes that start at `left`."""
    last = [part for part in stage if part.block][-1]
    assert last.block is not None
    spec = last.block.output_specs[0]
    size = f"{last.width} · {_extent(spec)}" if spec.pixels > 1 else f"{last.width}"
    boxes = []
    for part in stage:
        boxes.append(_box(part, left, scale) if part.block else _empty(part, left, last.width, scale))
        left += BOX_WIDTH + BOX_GAP
    return Html(
        f'<rect class="panel" x="{x:g}" y="0.5" width="{panel:g}" height="{TOP + BODY + BOTTOM - 1}" rx="9"/>'
        f'<text class="name" x="{x + panel / 2:g}" y="19">{escape(title)}</text>'
        f'<text class="size" x="{x + panel / 2:g}" y="34">{size}</text>{join(boxes)}'
    )


def _box(part: Part, x: float, scale: float) -> Html:
    """A block: its output channels (solid), the channels of its widest inner layer (pale), options and
    marks."""
    block = part.block
    assert block is not None
    solid, pale = (_height(channels, scale) for channels in (part.width, _inner(block)))
    return Html(
        f"<g><title>{escape(_describe(part))}</title>"
        + _rect("inner", x, pale)
        + _rect(f"box k{_kernel(block)}" + " int8" * part.in_int8, x, solid)
        + _shortcut(block, x, max(pale, solid))
        + "".join(_lines(part.options or (f"{part.width}",), x + BOX_WIDTH / 2))
        + "".join(_marks(block, x))
        + "</g>"
    )


def _empty(part: Part, x: float, channels: int, scale: float) -> Html:
    """The outline of a block that the depth leaves out."""
    title = escape(f"{part.slot.name}: switched off by the depth")
    return Html(f"<g><title>{title}</title>{_rect('off', x, _height(channels, scale))}</g>")


def _inner(block: Block) -> int:
    """Channels of the widest inner tensor, without the outputs of the classifier."""
    inner = [spec.channels for node in block.nodes[1:] for spec in node.specs]
    return max(inner, default=block.nodes[0].output.channels)


def _kernel(block: Block) -> int:
    """Largest kernel size of a block."""
    convolutions = [max(node.op.kernel) for node in block.nodes if isinstance(node.op, ops.Conv2d)]
    pools = [node.op.kernel for node in block.nodes if isinstance(node.op, ops.Pool2d)]
    return max([1, *convolutions, *pools])


def _extent(spec: TensorSpec) -> str:
    """Size of a feature map or number of tokens: `8²`, `8x6` or `197`."""
    square = len(spec.size) == 2 and spec.size[0] == spec.size[1]
    return f"{spec.size[0]}²" if square else "x".join(map(str, spec.size))


def _height(channels: int, scale: float) -> float:
    return MIN_BOX + scale * math.sqrt(channels)


def _rect(kind: str, x: float, height: float) -> str:
    y = TOP + (BODY - height) / 2
    return f'<rect class="{kind}" x="{x:g}" y="{y:.1f}" width="{BOX_WIDTH}" height="{height:.1f}" rx="5"/>'


def _shortcut(block: Block, x: float, height: float) -> str:
    """An arc over the box if the block adds its input to its output."""
    if not block.has(ops.Add):
        return ""
    y = TOP + (BODY - height) / 2 - 2
    return f'<path class="shortcut" d="M{x + 5:g} {y:.1f}q{BOX_WIDTH / 2 - 5:g} -9 {BOX_WIDTH - 10:g} 0"/>'


def _lines(label: tuple[str, ...], x: float) -> Iterator[str]:
    if max(map(len, label)) > MAX_CHARACTERS:
        label = tuple(line for text in label for line in (text[0], text[1:]))
    first = TOP + BODY / 2 + 4 - 6.5 * (len(label) - 1)
    for i, text in enumerate(label):
        yield f'<text class="label" x="{x:g}" y="{first + 13 * i:g}">{escape(text)}</text>'


def _marks(block: Block, x: float) -> Iterator[str]:
    """Labels under the box: squeeze-and-excitation, stride."""
    stride = _stride(block)
    texts = ["SE"] * block.has(ops.Multiply) + [f"s{stride}"] * (stride > 1)
    left, wide = x + 2, BOX_WIDTH - 4
    for i, text in enumerate(texts):
        y = TOP + BODY + 3 + 18 * i
        kind = "se" if text == "SE" else "stride"
        yield f'<rect class="pill {kind}" x="{left:g}" y="{y}" width="{wide}" height="15" rx="7.5"/>'
        yield f'<text class="mark {kind}" x="{x + BOX_WIDTH / 2:g}" y="{y + 11}">{text}</text>'


def _stride(block: Block) -> int:
    """Total stride of a block over its feature maps; 1 in the head and for blocks without feature maps."""
    specs = [*block.inputs, *(node.output for node in block.nodes)]
    images = [spec for spec in specs if spec.layout == "image"]
    if not images or block.output_specs[0].layout == "vector":
        return 1
    return -(-images[0].size[0] // images[-1].size[0])


def _describe(part: Part) -> str:
    block = part.block
    assert block is not None
    source = block.inputs[0]
    channels = f"{source.channels} → {_inner(block)} → {part.width} channels"
    unit = "tokens" if source.layout == "tokens" else "px"
    return (
        f"{part.slot.name}: {channels}, {_extent(source)} {unit}, {count(block.macs)} MACs"
        + ", INT8" * part.in_int8
    )
