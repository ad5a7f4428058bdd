"""The MBConv family: MobileNetV2/V3-like networks with elastic depth, width, kernel, expand and resolution.

One declarative type covers the spaces of OFA, BigNAS and AttentiveNAS and a user's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Literal, Self, TypeVar

from pydantic import BaseModel, Field, field_validator, model_validator

from search_spaces.arch import Arch, StageArch
from search_spaces.layers import BLOCK_INPUT, Activation, Block, LayerSpec
from search_spaces.space import Choice, Positive, Slot, Space, SpaceConfig, Value

_Number = TypeVar("_Number", int, float)


def rising(options: tuple[_Number, ...]) -> tuple[_Number, ...]:
    """Check a list of options: at least one, rising, none twice.

    Raises:
        ValueError: otherwise.
    """
    if not options or list(options) != sorted(set(options)):
        raise ValueError("options must be a rising list without repeats, such as [3, 5, 7]")
    return options


def odd(kernels: tuple[int, ...]) -> tuple[int, ...]:
    """Check kernel sizes: odd, so that padding keeps the size.

    Raises:
        ValueError: otherwise.
    """
    if any(kernel < 1 or kernel % 2 == 0 for kernel in kernels):
        raise ValueError(f"kernel sizes must be odd, got {list(kernels)}")
    return kernels


class StageConfig(BaseModel, frozen=True, extra="forbid"):
    """A run of MBConv blocks of one width; the first block carries the stride."""

    width: tuple[Positive, ...]
    """Output channels on offer."""
    depth: tuple[Positive, ...] = (1,)
    """Numbers of blocks on offer."""
    kernel: tuple[int, ...] = (3,)
    """Depthwise kernel sizes on offer, in pixels."""
    expand: tuple[Annotated[float, Field(ge=1)], ...] = (1.0,)
    """Expansion ratios on offer: inner channels / input channels of a block."""
    per: Literal["block", "stage"] = "block"
    """Whether kernel and expand are chosen for every block or once for the stage."""
    stride: Literal[1, 2] = 1
    activation: Activation = "relu"
    se: bool = False
    """Squeeze-and-excitation after the depthwise convolution."""
    shortcut: Literal["identity", "none"] = "identity"
    """`identity` adds a block's input to its output where stride and channels allow it."""

    _rising = field_validator("width", "depth", "kernel", "expand")(rising)
    _odd = field_validator("kernel")(odd)


class StemConfig(BaseModel, frozen=True, extra="forbid"):
    """The first convolution."""

    width: tuple[Positive, ...]
    kernel: int = 3
    stride: Literal[1, 2] = 2
    activation: Activation = "hard_swish"

    _rising = field_validator("width")(rising)

    @field_validator("kernel")
    @classmethod
    def _odd(cls, kernel: int) -> int:
        return odd((kernel,))[0]


class HeadConfig(BaseModel, frozen=True, extra="forbid"):
    """1×1 convolution, pooling, classifier.

    With `pool_width` or `pool_expand` a second 1×1 layer follows the pooling (MobileNetV3).
    """

    width: tuple[Positive, ...]
    """Features that the classifier reads."""
    pool_width: Positive | None = None
    """Channels of the convolution before pooling (MobileNetV3's head); `width` then comes after it."""
    pool_expand: float | None = None
    """The same as a multiple of the last stage's width (AttentiveNAS's head)."""
    activation: Activation = "hard_swish"

    _rising = field_validator("width")(rising)

    @model_validator(mode="after")
    def _one_pool(self) -> Self:
        if self.pool_width is not None and self.pool_expand is not None:
            raise ValueError("give pool_width or pool_expand, not both")
        return self


class MBConvConfig(SpaceConfig, frozen=True):
    """A space of the MBConv family, as its YAML file says it."""

    family: Literal["mbconv"] = "mbconv"
    stem: StemConfig
    stages: Annotated[tuple[StageConfig, ...], Field(min_length=1)]
    head: HeadConfig
    divisor: Positive = 8
    """Inner channels (of expansions and SE) are rounded to multiples of this."""
    se_gate: Literal["hard_sigmoid"] = "hard_sigmoid"
    se_reduction: Positive = 4
    """Inner channels of a block / hidden channels of its SE branch."""
    norm_eps: Annotated[float, Field(gt=0)] = 1e-5
    """Epsilon of every batch norm."""

    _rising = field_validator("resolutions")(rising)


def make_divisible(channels: float, divisor: int) -> int:
    """The multiple of `divisor` nearest to `channels`, at least `divisor` and never below 90 % of `channels`.

    Source: MobileNetV2 (Sandler et al. 2018), as all OFA-like spaces use it.
    """
    result = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return result + divisor if result < 0.9 * channels else result


class MBConvSpace(Space):
    """A space of the MBConv family."""

    config: MBConvConfig

    def __init__(self, config: MBConvConfig) -> None:
        super().__init__(config, _choices(config), _slots(config))

    def values_of(self, arch: Arch) -> dict[str, Value]:
        """See `Space.values_of`."""
        stages = self.config.stages
        if len(arch.stages) != len(stages):
            raise ValueError(
                f"an arch of the space {self.name!r} must have {len(stages)} stages, got {len(arch.stages)}"
            )
        values: dict[str, Value] = {"resolution": arch.resolution, "stem.width": arch.stem_width}
        for s, (stage, config) in enumerate(zip(arch.stages, stages, strict=True)):
            if len(stage.expands) != stage.depth:
                raise ValueError(
                    f"stages.{s} must list a kernel and an expand for each block, "
                    f"got {stage.depth} kernels and {len(stage.expands)} expands"
                )
            values |= {f"stages.{s}.width": stage.width, f"stages.{s}.depth": stage.depth}
            for kind, chosen in (("kernel", stage.kernels), ("expand", stage.expands)):
                if config.per == "block":
                    values |= {f"stages.{s}.blocks.{b}.{kind}": v for b, v in enumerate(chosen)}
                elif len(set(chosen)) == 1:
                    values[f"stages.{s}.{kind}"] = chosen[0]
                else:
                    raise ValueError(
                        f"stages.{s}.{kind} must be the same in all blocks of the stage "
                        f"in the space {self.name!r}, got {chosen}"
                    )
            if stage.depth not in config.depth:  # before the names of blocks that cannot exist
                raise ValueError(
                    f"stages.{s}.depth must be one of {config.depth} in the space {self.name!r}, "
                    f"got {stage.depth}"
                )
        values["head.width"] = arch.head_width
        return values

    def arch_of(self, values: Mapping[str, Value]) -> Arch:
        """See `Space.arch_of`."""
        stages = []
        for s, config in enumerate(self.config.stages):
            blocks = range(int(values[f"stages.{s}.depth"]))
            prefixes = [f"stages.{s}.blocks.{b}" if config.per == "block" else f"stages.{s}" for b in blocks]
            stages.append(
                StageArch(
                    width=int(values[f"stages.{s}.width"]),
                    kernels=tuple(int(values[f"{prefix}.kernel"]) for prefix in prefixes),
                    expands=tuple(values[f"{prefix}.expand"] for prefix in prefixes),
                )
            )
        return Arch(
            resolution=int(values["resolution"]),
            stem_width=int(values["stem.width"]),
            stages=tuple(stages),
            head_width=int(values["head.width"]),
        )

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
    def text(options: tuple[float, ...]) -> str:
        return " ".join(f"{option:g}" for option in options)

    return {
        "stage": name,
        "width": text(width),
        "depth": text(depth),
        "kernel": text(kernel),
        "expand": text(expand),
        "chosen per": per,
        "stride": str(stride),
        "SE": "yes" if se else "",
        "activation": activation,
    }


def _choices(config: MBConvConfig) -> list[Choice]:
    choices = [Choice("resolution", config.resolutions), Choice("stem.width", config.stem.width)]
    for s, stage in enumerate(config.stages):
        depth = f"stages.{s}.depth"
        choices += [Choice(f"stages.{s}.width", stage.width), Choice(depth, stage.depth)]
        for kind, options in (("kernel", stage.kernel), ("expand", stage.expand)):
            if stage.per == "stage":
                choices.append(Choice(f"stages.{s}.{kind}", options))
            else:
                choices += [
                    Choice(f"stages.{s}.blocks.{b}.{kind}", options, depth, b) for b in range(stage.depth[-1])
                ]
    return [*choices, Choice("head.width", config.head.width)]


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
            build = partial(_mbconv, config, stage, name, stride, stage.stride if b == 0 else 1)
            slots.append(Slot(name, choices, build, s, depth, b))
            stride *= stage.stride if b == 0 else 1
        entry = width
    return [*slots, Slot("head", ("resolution", entry, "head.width"), partial(_head, config, stride))]


def _size(resolution: int, stride: int) -> int:
    """Side of the feature map after a total stride: every stride of 2 halves and rounds up."""
    return -(-resolution // stride)


def _stem(config: MBConvConfig, resolution: int, width: int) -> Block:
    stem = config.stem
    return (
        LayerSpec(
            "conv",
            "conv",
            "stem",
            (BLOCK_INPUT,),
            config.channels,
            width,
            resolution,
            _size(resolution, stem.stride),
            stem.kernel,
            stem.stride,
            norm_eps=config.norm_eps,
            activation=stem.activation,
        ),
    )


def _mbconv(
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
    """Expansion 1×1, depthwise k×k, SE, projection 1×1, shortcut (MobileNetV3, Howard et al. 2019, §5)."""
    size_in, size = _size(resolution, stride_in), _size(resolution, stride_in * stride)
    mid = c_in if expand == 1 else make_divisible(round(c_in * expand), config.divisor)
    layers: list[LayerSpec] = []
    eps = config.norm_eps
    if expand != 1:
        layers.append(
            LayerSpec(
                "conv",
                "expand",
                name,
                (BLOCK_INPUT,),
                c_in,
                mid,
                size_in,
                size_in,
                norm_eps=eps,
                activation=stage.activation,
            )
        )
    layers.append(
        LayerSpec(
            "conv",
            "depthwise",
            name,
            (len(layers) - 1,),
            mid,
            mid,
            size_in,
            size,
            kernel,
            stride,
            groups=mid,
            norm_eps=eps,
            activation=stage.activation,
        )
    )
    if stage.se:
        layers += _squeeze_excite(config, name, mid, size, after=len(layers) - 1)
    layers.append(
        LayerSpec("conv", "project", name, (len(layers) - 1,), mid, width, size, size, norm_eps=eps)
    )
    if stage.shortcut == "identity" and stride == 1 and c_in == width:
        inputs = (BLOCK_INPUT, len(layers) - 1)
        layers.append(LayerSpec("add", "shortcut", name, inputs, width, width, size, size))
    return tuple(layers)


def _squeeze_excite(config: MBConvConfig, name: str, mid: int, size: int, after: int) -> list[LayerSpec]:
    hidden = make_divisible(mid // config.se_reduction, config.divisor)
    return [
        LayerSpec("global_avg_pool", "se.pool", name, (after,), mid, mid, size, 1),
        LayerSpec("conv", "se.reduce", name, (after + 1,), mid, hidden, 1, 1, bias=True, activation="relu"),
        LayerSpec(
            "conv", "se.expand", name, (after + 2,), hidden, mid, 1, 1, bias=True, activation=config.se_gate
        ),
        LayerSpec("multiply", "se.scale", name, (after, after + 3), mid, mid, size, size),
    ]


def _head(config: MBConvConfig, stride: int, resolution: int, c_in: int, width: int) -> Block:
    head, size = config.head, _size(resolution, stride)
    pooled = head.pool_width or width
    if head.pool_expand is not None:
        pooled = make_divisible(round(c_in * head.pool_expand), config.divisor)
    layers = [
        LayerSpec(
            "conv",
            "conv",
            "head",
            (BLOCK_INPUT,),
            c_in,
            pooled,
            size,
            size,
            norm_eps=config.norm_eps,
            activation=head.activation,
        ),
        LayerSpec("global_avg_pool", "pool", "head", (0,), pooled, pooled, size, 1),
    ]
    if head.pool_width is not None or head.pool_expand is not None:
        layers.append(
            LayerSpec("linear", "mix", "head", (1,), pooled, width, 1, 1, activation=head.activation)
        )
    last = len(layers) - 1
    layers.append(LayerSpec("linear", "classifier", "head", (last,), width, config.classes, 1, 1, bias=True))
    return tuple(layers)
