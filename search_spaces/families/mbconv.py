"""The MBConv family: MobileNetV2/V3-like networks with elastic depth, width, kernel, expand and resolution.

It covers the spaces of OFA, BigNAS and AttentiveNAS, and custom spaces.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from search_spaces.building import BlockBuilder, make_divisible
from search_spaces.choices import Choice, Kind, listed
from search_spaces.families.mbconv_config import MBConvConfig as MBConvConfig
from search_spaces.families.mbconv_config import StageConfig, StagesConfig
from search_spaces.graph import BLOCK_INPUT, Block
from search_spaces.operators import Add, AvgPool2d, GlobalAvgPool, Multiply, Resize
from search_spaces.space import Slot, Space
from search_spaces.tensors import image


class MBConvSpace(Space):
    """A space of the MBConv family."""

    config: MBConvConfig

    def __init__(self, config: MBConvConfig) -> None:
        super().__init__(config, _choices(config), _slots(config))

    def stages(self) -> list[dict[str, str]]:
        """See `Space.stages`."""
        return stage_rows(self.config)


def stage_rows(config: StagesConfig) -> list[dict[str, str]]:
    """Descriptions of stem, stages and head, see `Space.stages`."""
    stem, head = config.stem, config.head
    rows = [_row("stem", stem.width, (1,), (stem.kernel,), (), stem.stride, stem.activation)]
    rows += [
        _row(f"stages.{s}", c.width, c.depth, c.kernel, c.expand, c.stride, c.activation, c.se, c.per)
        for s, c in enumerate(config.stages)
    ]
    return [*rows, _row("head", head.width, (1,), (1,), (), 1, head.activation)]


def _row(
    name: str,
    width: tuple[int, ...],
    depth: tuple[int, ...],
    kernel: tuple[int, ...],
    expand: tuple[float, ...],
    stride: int,
    activation: str,
    se: bool = False,
    per: str = "",
) -> dict[str, str]:
    return {
        "stage": name,
        "width": listed(width),
        "depth": listed(depth),
        "kernel": listed(kernel),
        "expand": listed(expand),
        "chosen per": per,
        "stride": str(stride),
        "SE": "yes" if se else "",
        "activation": activation,
    }


def _choices(config: MBConvConfig) -> list[Choice]:
    stages = [choice for s, stage in enumerate(config.stages) for choice in stage_choices(s, stage)]
    return with_end_choices(config, stages)


def with_end_choices(config: StagesConfig, stages: Sequence[Choice]) -> list[Choice]:
    """The choices of a network, given those of its stages."""
    return [
        Choice("resolution", "resolution", config.resolutions),
        Choice("stem.width", "width", config.stem.width),
        *stages,
        Choice("head.width", "width", config.head.width),
    ]


def stage_choices(s: int, stage: StageConfig) -> list[Choice]:
    """The choices of stage `s`."""
    depth = f"stages.{s}.depth"
    choices = [
        Choice(f"stages.{s}.width", "width", stage.width, s),
        Choice(depth, "depth", stage.depth, s),
    ]
    kinds: list[tuple[Kind, tuple[float, ...]]] = [("kernel", stage.kernel), ("expand", stage.expand)]
    for kind, options in kinds:
        if stage.per == "stage":
            choices.append(Choice(f"stages.{s}.{kind}", kind, options, s))
        else:
            choices += [
                Choice(f"stages.{s}.blocks.{b}.{kind}", kind, options, s, b, depth, position=b)
                for b in range(stage.depth[-1])
            ]
    return choices


def _slots(config: MBConvConfig) -> list[Slot]:
    slots = [stem_slot(config)]
    entry = "stem.width"
    stride: int = config.stem.stride
    for s, stage in enumerate(config.stages):
        slots += stage_slots(config, s, stage, entry, stride)
        stride *= stage.stride
        entry = f"stages.{s}.width"
    return [*slots, Slot("head", ("resolution", entry, "head.width"), partial(_head, config, stride))]


def stem_slot(config: StagesConfig) -> Slot:
    """The slot of the stem."""
    return Slot("stem", ("resolution", "stem.width"), partial(_stem, config))


def stage_slots(config: StagesConfig, s: int, stage: StageConfig, entry: str, stride: int) -> list[Slot]:
    """The slots of stage `s`.

    Args:
        config: config of the space.
        s: index of the stage.
        stage: config of the stage.
        entry: the choice of its input width.
        stride: total stride of its input.
    """
    slots = []
    width, depth = f"stages.{s}.width", f"stages.{s}.depth"
    for b in range(stage.depth[-1]):
        name = f"stages.{s}.blocks.{b}"
        prefix = name if stage.per == "block" else f"stages.{s}"
        choices = (
            "resolution",
            entry if b == 0 else width,
            width,
            f"{prefix}.kernel",
            f"{prefix}.expand",
        )
        build = partial(_stage_block, config, stage, name, stride, stage.stride if b == 0 else 1)
        learned = stage.kernel if config.kernel_transform else ()
        slots.append(Slot(name, choices, build, s, depth, b, learned))
        stride *= stage.stride if b == 0 else 1
    return slots


def map_size(resolution: int, stride: int) -> int:
    """Side of the feature map after a total stride, rounded up."""
    return -(-resolution // stride)


def _stem(config: StagesConfig, resolution: int, width: int) -> Block:
    stem = config.stem
    images = image(config.channels, config.input_size or resolution)
    block = BlockBuilder("stem", images, norm_eps=config.norm_eps)
    if config.input_size:
        block.add(Resize((resolution, resolution)), "resize")
    block.conv("conv", width, kernel=stem.kernel, stride=stem.stride, activation=stem.activation)
    return block.build()


def _stage_block(
    config: StagesConfig,
    stage: StageConfig,
    name: str,
    stride_in: int,
    stride: int,
    resolution: int,
    c_in: int,
    width: int,
    kernel: int,
    expand: float,
) -> Block:
    block = BlockBuilder(name, image(c_in, map_size(resolution, stride_in)), norm_eps=config.norm_eps)
    add_mbconv(config, stage, block, stride, width, kernel, expand)
    return block.build()


def add_mbconv(
    config: StagesConfig,
    stage: StageConfig,
    block: BlockBuilder,
    stride: int,
    width: int,
    kernel: int,
    expand: float,
) -> None:
    """Add an MBConv block of a stage, with its shortcut, after the last node of `block`."""
    start = block.last
    c_in = block.spec(start).channels
    mid = None if expand == 1 else make_divisible(round(c_in * expand), config.divisor)
    hidden = make_divisible((mid or c_in) // config.se_reduction, config.divisor) if stage.se else None
    mbconv(
        block,
        width,
        mid=mid,
        kernel=kernel,
        stride=stride,
        activation=stage.activation,
        se_hidden=hidden,
        se_gate=config.se_gate,
    )
    add_shortcut(block, stage.shortcut, stride, start)


def mbconv(
    block: BlockBuilder,
    width: int,
    *,
    mid: int | None,
    kernel: int,
    stride: int,
    activation: str,
    se_hidden: int | None,
    se_gate: str,
) -> None:
    """Expansion 1×1, depthwise k×k, SE, projection 1×1 (MobileNetV3, Howard et al. 2019, §5).

    Args:
        block: builder of the block.
        width: output channels.
        mid: inner channels; None: no expansion.
        kernel: kernel size of the depthwise convolution.
        stride: stride of the depthwise convolution.
        activation: activation of expansion and depthwise convolution.
        se_hidden: hidden channels of the SE branch; None: no SE.
        se_gate: activation of the output of the SE branch.
    """
    if mid is not None:
        block.conv("expand", mid, activation=activation)
    depthwise = block.depthwise("depthwise", kernel, stride, activation=activation)
    if se_hidden is not None:
        channels = block.spec(depthwise).channels
        block.add(GlobalAvgPool(), "se.pool")
        block.conv("se.reduce", se_hidden, norm=False, bias=True, activation="relu")
        gate = block.conv("se.expand", channels, norm=False, bias=True, activation=se_gate)
        block.combine(Multiply(), "se.scale", depthwise, gate)
    block.conv("project", width)


def add_shortcut(block: BlockBuilder, kind: str, stride: int, start: int = BLOCK_INPUT) -> None:
    """Add the node `start` to the last one, if `kind` allows it (see `StageConfig.shortcut`)."""
    source, end = block.spec(start), block.last
    width = block.spec(end).channels
    reach = ("none", "identity", "pool", "projection").index(kind)
    needed = 3 if source.channels != width else 2 if stride > 1 else 1
    if reach < needed:
        return
    if stride > 1:
        start = block.add(AvgPool2d(stride, stride, source.size[0] % 2), "shortcut.pool", start)
    if source.channels != width:
        start = block.conv("shortcut.conv", width, norm=False, after=start)
    block.combine(Add(), "shortcut", start, end)


def _head(config: MBConvConfig, stride: int, resolution: int, c_in: int, width: int) -> Block:
    block = BlockBuilder("head", image(c_in, map_size(resolution, stride)), norm_eps=config.norm_eps)
    add_head(config, block, width)
    return block.build()


def add_head(config: StagesConfig, block: BlockBuilder, width: int) -> None:
    """Add the layers of the head after the last node of `block`."""
    head = config.head
    c_in = block.spec(block.last).channels
    pooled = head.pool_width or width
    if head.pool_expand is not None:
        pooled = make_divisible(round(c_in * head.pool_expand), config.divisor)
    block.conv("conv", pooled, activation=head.activation)
    block.pooled_features("pool")
    if head.pool_width is not None or head.pool_expand is not None:
        block.linear("mix", width, bias=head.mix_bias, activation=head.activation)
    block.linear("classifier", config.outputs, bias=True)
