"""The keys of the YAML file of a space of the hybrid family."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, Field, field_validator, model_validator

from search_spaces.config import Positive, rising
from search_spaces.families.mbconv_config import ActivationName, StageConfig, StagesConfig

Ratios = tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...]


class ConvStageConfig(StageConfig, frozen=True):
    """A stage of MBConv blocks."""

    kind: Literal["conv"] = "conv"
    same_width: bool = False
    """Whether the width of the stage equals the width of its input; both must have the same options."""


class AttentionStageConfig(StageConfig, frozen=True):
    """One MBConv block, which has the stride, kernel, expand and SE of the stage, then `depth` blocks of
    attention and MLP."""

    kind: Literal["attention"] = "attention"
    per: Literal["stage"] = "stage"
    """All options are chosen once for the stage."""
    value_ratio: tuple[Positive, ...] = (1,)
    """Options for the channels of values / width."""
    mlp_ratio: Ratios = (1.0,)
    """Options for the hidden channels of an MLP / width, rounded down."""

    _rising_ratios = field_validator("value_ratio", "mlp_ratio")(rising)


class SwitchableScalingConfig(BaseModel, frozen=True, extra="forbid"):
    """Factors on residual branches, for each number of blocks and of tokens (NASViT, Gong et al. 2022).

    The factor of a channel is multiplied by `period` / width.
    """

    init: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1e-4
    """Initial factors."""
    period: Positive = 8
    """Numbers of tokens with the same remainder modulo this share their factors."""


class AttentionConfig(BaseModel, frozen=True, extra="forbid"):
    """Attention and MLP of all stages."""

    head_dim: Positive
    """Channels of queries and keys of a head; widths must be multiples of it."""
    activation: ActivationName = "hard_swish"
    """Activation in MLPs and after attention."""
    qkv_bias: bool = False
    talking_heads: bool = False
    """Mix the heads by a linear layer before and after the softmax (Shazeer et al. 2020)."""
    mixed_channels: bool = False
    """Split the concatenation of queries, keys and values into heads, as ElasticViT does, instead of each of
    the three separately."""
    mlps: Literal[1, 2] = 1
    """Number of MLPs after each attention."""
    scaling: SwitchableScalingConfig | None = None
    """Switchable scaling of residual branches; null: none."""
    norm_eps: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1e-5
    """Epsilon of layer norms, which normalize all tokens together."""


Stage = Annotated[ConvStageConfig | AttentionStageConfig, Field(discriminator="kind")]


class HybridConfig(StagesConfig, frozen=True):
    """Content of the YAML file of a space of the hybrid family."""

    family: Literal["hybrid"] = "hybrid"
    stages: Annotated[tuple[Stage, ...], Field(min_length=1)]
    attention: AttentionConfig

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        attention = [isinstance(stage, AttentionStageConfig) for stage in self.stages]
        if not attention[-1] or attention != sorted(attention):
            raise ValueError("stages must be of the kind conv first, then one or more of the kind attention")
        dim = self.attention.head_dim
        before = self.stem.width
        for s, stage in enumerate(self.stages):
            if isinstance(stage, ConvStageConfig) and stage.same_width and stage.width != before:
                raise ValueError(
                    f"stages.{s}.width must be {list(before)} because of same_width, got {list(stage.width)}"
                )
            wrong = [width for width in stage.width if width % dim]
            if isinstance(stage, AttentionStageConfig) and wrong:
                raise ValueError(f"stages.{s}.width must have multiples of head_dim {dim}, got {wrong}")
            before = stage.width
        return self
