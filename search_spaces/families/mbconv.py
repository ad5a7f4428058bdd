"""The MBConv family: MobileNetV2/V3-like networks with elastic depth, width, kernel, expand and resolution.

It covers the spaces of OFA, BigNAS and AttentiveNAS, and custom spaces.
"""

from __future__ import annotations

from functools import partial

from search_spaces.building import BlockBuilder, make_divisible
from search_spaces.choices import Choice, Kind, listed
from search_spaces.families.mbconv_config import MBConvConfig as MBConvConfig
from search_spaces.families.mbconv_config import StageConfig
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
        stem, head = self.config.stem, self.config.head
        rows = [_row("stem", stem.width, (1,), (stem.kernel,), (), stem.stride, stem.activation)]
        rows += [
            _row(f"stages.{s}", c.width, c.depth, c.kernel, c.expand, c.stride, c.activation, c.se, c.per)
            for s, c in enumerate(self.config.stages)
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
    choices = [
        Choice("resolution", "resolution", config.resolutions),
        Choice("stem.width", "width", config.stem.width),
    ]
    for s, stage in enumerate(config.stages):
        depth = f"stages.{s}.depth"
        choices += [
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
    return [*choices, Choice("head.width", "width", config.head.width)]


def _slots(config: MBConvConfig) -> list[Slot]:
    slots = [Slot("stem", ("resolution", "stem.width"), partial(_stem, config))]
    entry = "stem.width"
    stride: int = config.stem.stride
    for s, stage in enumerate(config.stages):
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
        entry = width
    return [*slots, Slot("head", ("resolution", entry, "head.width"), partial(_head, config, stride))]


def _size(resolution: int, stride: int) -> int:
    """Side of the feature map after a total stride, rounded up."""
    return -(-resolution // stride)


def _stem(config: MBConvConfig, resolution: int, width: int) -> Block:
    stem = config.stem
    images = image(config.channels, config.input_size or resolution)
    block = BlockBuilder("stem", images, norm_eps=config.norm_eps)
    if config.input_size:
        block.add(Resize((resolution, resolution)), "resize")
    block.conv("conv", width, kernel=stem.kernel, stride=stem.stride, activation=stem.activation)
    return block.build()


def _stage_block(
    config: MBConvConfig,
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
    mid = None if expand == 1 else make_divisible(round(c_in * expand), config.divisor)
    block = BlockBuilder(name, image(c_in, _size(resolution, stride_in)), norm_eps=config.norm_eps)
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
    add_shortcut(block, stage.shortcut, stride)
    return block.build()


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


def add_shortcut(block: BlockBuilder, kind: str, stride: int) -> None:
    """Add the input of the block to its output, if `kind` allows it (see `StageConfig.shortcut`)."""
    source, end = block.spec(BLOCK_INPUT), block.last
    width = block.spec(end).channels
    reach = ("none", "identity", "pool", "projection").index(kind)
    needed = 3 if source.channels != width else 2 if stride > 1 else 1
    if reach < needed:
        return
    start = BLOCK_INPUT
    if stride > 1:
        start = block.add(AvgPool2d(stride, stride, source.size[0] % 2), "shortcut.pool", start)
    if source.channels != width:
        start = block.conv("shortcut.conv", width, norm=False, after=start)
    block.combine(Add(), "shortcut", start, end)


def _head(config: MBConvConfig, stride: int, resolution: int, c_in: int, width: int) -> Block:
    head = config.head
    pooled = head.pool_width or width
    if head.pool_expand is not None:
        pooled = make_divisible(round(c_in * head.pool_expand), config.divisor)
    block = BlockBuilder("head", image(c_in, _size(resolution, stride)), norm_eps=config.norm_eps)
    block.conv("conv", pooled, activation=head.activation)
    block.pooled_features("pool")
    if head.pool_width is not None or head.pool_expand is not None:
        block.linear("mix", width, activation=head.activation)
    block.linear("classifier", config.outputs, bias=True)
    return block.build()
