"""The keys of the YAML file of a space of the MBConv family."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, Field, field_validator, model_validator

from search_spaces.config import Positive, SpaceConfig, rising

ActivationName = Literal["none", "relu", "relu6", "hard_swish", "swish", "sigmoid", "hard_sigmoid", "gelu"]
"""Keys of `search_spaces.operators.ACTIVATIONS`, or no activation."""


def odd(kernels: tuple[int, ...]) -> tuple[int, ...]:
    """Check that kernel sizes are odd, so that padding preserves the size.

    Raises:
        ValueError: otherwise.
    """
    if any(kernel < 1 or kernel % 2 == 0 for kernel in kernels):
        raise ValueError(f"kernel sizes must be odd, got {list(kernels)}")
    return kernels


class StageConfig(BaseModel, frozen=True, extra="forbid"):
    """A sequence of MBConv blocks of equal width; the first block has the stride."""

    width: tuple[Positive, ...]
    """Options for the output channels."""
    depth: tuple[Positive, ...] = (1,)
    """Options for the number of blocks."""
    kernel: tuple[int, ...] = (3,)
    """Options for the depthwise kernel size, in pixels."""
    expand: tuple[Annotated[float, Field(ge=1, allow_inf_nan=False)], ...] = (1.0,)
    """Options for the expansion ratio: inner channels / input channels of a block."""
    per: Literal["block", "stage"] = "block"
    """Whether kernel and expand are chosen for every block or once for the stage."""
    stride: Literal[1, 2] = 1
    activation: ActivationName = "relu"
    se: bool = False
    """Squeeze-and-excitation after the depthwise convolution."""
    shortcut: Literal["none", "identity", "pool", "projection"] = "identity"
    """Which blocks add their input to their output: `none`; `identity`: those whose output has the shape of
    their input; `pool`: also across a stride, through a 2x2 average; `projection`: also across widths,
    through a 1x1 convolution without batch norm after that average (AttentiveNAS, BigNAS)."""

    _rising = field_validator("width", "depth", "kernel", "expand")(rising)
    _odd = field_validator("kernel")(odd)


class StemConfig(BaseModel, frozen=True, extra="forbid"):
    """The first convolution."""

    width: tuple[Positive, ...]
    kernel: int = 3
    stride: Literal[1, 2] = 2
    activation: ActivationName = "hard_swish"

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
    """Options for the input features of the classifier."""
    pool_width: Positive | None = None
    """Channels of the convolution before pooling (head of MobileNetV3)."""
    pool_expand: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """`pool_width` as a multiple of the width of the last stage (head of AttentiveNAS)."""
    mix_bias: bool = False
    """Whether the second layer, which follows the pooling, has a bias (ElasticViT)."""
    activation: ActivationName = "hard_swish"

    _rising = field_validator("width")(rising)

    @model_validator(mode="after")
    def _one_pool(self) -> Self:
        if self.pool_width is not None and self.pool_expand is not None:
            raise ValueError("give pool_width or pool_expand, not both")
        return self


class StagesConfig(SpaceConfig, frozen=True):
    """The keys of networks with a stem, stages and a head."""

    stem: StemConfig
    stages: Annotated[tuple[StageConfig, ...], Field(min_length=1)]
    head: HeadConfig
    input_size: Positive | None = None
    """Side of the images, if the network resizes them to the resolution itself (AttentiveNAS); None: the
    resolution."""
    kernel_transform: bool = False
    """Whether smaller kernels are learned linear maps of the centres of larger ones (OFA, Cai et al. 2020,
    §3.3) instead of the centres."""
    divisor: Positive = 8
    """Inner channels (of expansions and SE branches) are rounded to multiples of this."""
    se_gate: Literal["hard_sigmoid", "sigmoid"] = "hard_sigmoid"
    se_reduction: Positive = 4
    """Inner channels of a block / hidden channels of its SE branch."""
    norm_eps: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1e-5
    """Epsilon of every batch norm."""


class MBConvConfig(StagesConfig, frozen=True):
    """Content of the YAML file of a space of the MBConv family."""

    family: Literal["mbconv"] = "mbconv"
