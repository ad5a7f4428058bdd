"""The ResNet-D family: bottleneck networks with elastic depth, width, expand, stem and resolution.

Sources: He et al. 2019, "Bag of tricks", §4.2 (ResNet-D); Cai et al. 2020, OFA-ResNet50 (elastic choices).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Annotated, Final, Literal

from pydantic import BaseModel, Field, field_validator

from search_spaces.building import BlockBuilder, make_divisible
from search_spaces.choices import Choice, listed
from search_spaces.config import Positive, SpaceConfig, rising
from search_spaces.graph import BLOCK_INPUT, Block
from search_spaces.operators import Add, AvgPool2d, MaxPool2d
from search_spaces.space import Slot, Space
from search_spaces.tensors import image

STEM_STRIDE = 4
"""Total stride of the first convolution and the max pool."""
FULL_STEM: Final = 3
"""Number of convolutions of a stem with its middle convolution."""


class StemConfig(BaseModel, frozen=True, extra="forbid"):
    """Three 3×3 convolutions, the first with stride 2, the middle one with a shortcut, then a max pool."""

    width: tuple[Positive, ...]
    """Options for the output channels."""
    mid: tuple[Positive, ...]
    """Channels of the first two convolutions, for each code of the published notation. Codes with equal
    channels are one option."""
    depth: tuple[Literal[2, 3], ...] = (FULL_STEM,)
    """Options for the number of convolutions; 2 skips the middle one."""

    _rising = field_validator("width", "depth")(rising)

    @field_validator("mid")
    @classmethod
    def _not_decreasing(cls, mid: tuple[int, ...]) -> tuple[int, ...]:
        rising(tuple(dict.fromkeys(mid)))
        return mid


class StageConfig(BaseModel, frozen=True, extra="forbid"):
    """A sequence of bottleneck blocks of equal width; the first has the stride and a projected shortcut."""

    width: tuple[Positive, ...]
    """Options for the output channels."""
    depth: tuple[Positive, ...]
    """Options for the number of blocks."""
    expand: tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...]
    """Options for inner channels / output channels, chosen for each block."""
    stride: Literal[1, 2] = 2

    _rising = field_validator("width", "depth", "expand")(rising)


class ResNetConfig(SpaceConfig, frozen=True):
    """Content of the YAML file of a space of the ResNet-D family."""

    family: Literal["resnet"]
    stem: StemConfig
    stages: Annotated[tuple[StageConfig, ...], Field(min_length=1)]
    divisor: Positive = 8
    """Inner channels are rounded to multiples of this."""
    norm_eps: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1e-5
    """Epsilon of every batch norm."""


class ResNetSpace(Space):
    """A space of the ResNet-D family."""

    config: ResNetConfig

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__(config, list(_choices(config)), list(_slots(config)))

    @property
    def n_codes(self) -> int:
        """See `Space.n_codes`: codes of the stem with equal channels are counted separately."""
        mid = self.config.stem.mid
        return self.n_subnets // len(set(mid)) * len(mid)

    def stages(self) -> list[dict[str, str]]:
        """See `Space.stages`."""
        stem = self.config.stem
        rows = [_row("stem.mid", stem.mid, (), (), 2), _row("stem", stem.width, stem.depth, (), 2)]
        rows += [
            _row(f"stages.{s}", c.width, c.depth, c.expand, c.stride)
            for s, c in enumerate(self.config.stages)
        ]
        return rows


def _row(
    name: str, width: tuple[int, ...], depth: tuple[int, ...], expand: tuple[float, ...], stride: int
) -> dict[str, str]:
    return {
        "stage": name,
        "width": listed(width),
        "depth": listed(depth),
        "expand": listed(expand),
        "stride": str(stride),
    }


def _choices(config: ResNetConfig) -> Iterator[Choice]:
    yield Choice("resolution", "resolution", config.resolutions)
    yield Choice("stem.depth", "depth", config.stem.depth)
    yield Choice("stem.mid", "mid", tuple(dict.fromkeys(config.stem.mid)))
    yield Choice("stem.width", "width", config.stem.width)
    for s, stage in enumerate(config.stages):
        depth = f"stages.{s}.depth"
        yield Choice(f"stages.{s}.width", "width", stage.width, s)
        yield Choice(depth, "depth", stage.depth, s)
        for b in range(stage.depth[-1]):
            yield Choice(f"stages.{s}.blocks.{b}.expand", "expand", stage.expand, s, b, depth, position=b)


def _slots(config: ResNetConfig) -> Iterator[Slot]:
    yield Slot("stem.0", ("resolution", "stem.mid"), partial(_stem_entry, config))
    if FULL_STEM in config.stem.depth:
        middle = partial(_stem_middle, config)
        yield Slot("stem.1", ("resolution", "stem.mid"), middle, depth="stem.depth", position=FULL_STEM - 1)
    yield Slot("stem.2", ("resolution", "stem.mid", "stem.width"), partial(_stem_exit, config))
    entry, stride = "stem.width", STEM_STRIDE
    for s, stage in enumerate(config.stages):
        width, depth = f"stages.{s}.width", f"stages.{s}.depth"
        for b in range(stage.depth[-1]):
            name = f"stages.{s}.blocks.{b}"
            if b == 0:
                choices: tuple[str, ...] = ("resolution", entry, width, f"{name}.expand")
                build = partial(_first_bottleneck, config, name, stride, stage.stride)
                stride *= stage.stride
            else:
                choices = ("resolution", width, f"{name}.expand")
                build = partial(_bottleneck, config, name, stride)
            yield Slot(name, choices, build, s, depth, b)
        entry = width
    yield Slot("head", ("resolution", entry), partial(_head, config, stride))


def _builder(config: ResNetConfig, name: str, c_in: int, resolution: int, stride: int) -> BlockBuilder:
    """A builder of a block whose input has the total stride `stride`; sizes are rounded up."""
    return BlockBuilder(name, image(c_in, -(-resolution // stride)), norm_eps=config.norm_eps)


def _stem_entry(config: ResNetConfig, resolution: int, mid: int) -> Block:
    block = _builder(config, "stem.0", config.channels, resolution, 1)
    block.conv("conv", mid, kernel=3, stride=2, activation="relu")
    return block.build()


def _stem_middle(config: ResNetConfig, resolution: int, mid: int) -> Block:
    block = _builder(config, "stem.1", mid, resolution, 2)
    end = block.conv("conv", mid, kernel=3, activation="relu")
    block.combine(Add(), "shortcut", BLOCK_INPUT, end)
    return block.build()


def _stem_exit(config: ResNetConfig, resolution: int, mid: int, width: int) -> Block:
    block = _builder(config, "stem.2", mid, resolution, 2)
    block.conv("conv", width, kernel=3, activation="relu")
    stem_pool(block)
    return block.build()


def stem_pool(block: BlockBuilder) -> None:
    """The max pool that ends the stem."""
    block.add(MaxPool2d(3, 2, 1), "pool")


def _first_bottleneck(
    config: ResNetConfig,
    name: str,
    stride_in: int,
    stride: int,
    resolution: int,
    c_in: int,
    width: int,
    expand: float,
) -> Block:
    block = _builder(config, name, c_in, resolution, stride_in)
    bottleneck(block, width, mid=_mid(config, width, expand), stride=stride, projected=True)
    return block.build()


def _bottleneck(
    config: ResNetConfig, name: str, stride_in: int, resolution: int, width: int, expand: float
) -> Block:
    block = _builder(config, name, width, resolution, stride_in)
    bottleneck(block, width, mid=_mid(config, width, expand), stride=1, projected=False)
    return block.build()


def _mid(config: ResNetConfig, width: int, expand: float) -> int:
    return make_divisible(round(width * expand), config.divisor)


def bottleneck(block: BlockBuilder, width: int, *, mid: int, stride: int, projected: bool) -> None:
    """1×1, 3×3 with the stride, 1×1, and the sum with the shortcut.

    Args:
        block: builder of the block.
        width: output channels.
        mid: inner channels.
        stride: stride of the middle convolution.
        projected: whether the shortcut has average pooling and a projection (ResNet-D); otherwise it is the
            input.
    """
    start = BLOCK_INPUT
    if projected:
        if stride > 1:
            start = block.add(AvgPool2d(stride, stride, ceil_mode=True), "downsample.pool", start)
        start = block.conv("downsample.conv", width, after=start)
    block.conv("conv1", mid, activation="relu", after=BLOCK_INPUT)
    block.conv("conv2", mid, kernel=3, stride=stride, activation="relu")
    end = block.conv("conv3", width)
    block.combine(Add(), "shortcut", start, end, activation="relu")


def _head(config: ResNetConfig, stride: int, resolution: int, c_in: int) -> Block:
    block = _builder(config, "head", c_in, resolution, stride)
    block.pooled_features("pool")
    block.linear("classifier", config.outputs, bias=True)
    return block.build()
