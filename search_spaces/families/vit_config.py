"""The keys of the YAML file of a space of vision transformers."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, Field, field_validator, model_validator

from search_spaces.config import Positive, SpaceConfig, rising


class RelativeTablesConfig(BaseModel, frozen=True, extra="forbid"):
    """Relative positions as vectors for keys and values (AutoFormer, Chen et al. 2021, §3.3)."""

    kind: Literal["tables"] = "tables"
    distance: Positive = 14
    """Largest distance in the tables, in patches; larger distances are clipped to it."""


class RelativeBiasConfig(BaseModel, frozen=True, extra="forbid"):
    """Relative positions as a number for each head (Swin, Liu et al. 2021, §3.2); needs `prefix: 0`."""

    kind: Literal["bias"] = "bias"


class ViTConfig(SpaceConfig, frozen=True):
    """Content of the YAML file of a space of vision transformers."""

    family: Literal["vit"] = "vit"
    patch: Positive
    """Side of a patch in pixels; resolutions must be multiples of it."""
    width: tuple[Positive, ...]
    """Options for the channels of a token; one value holds for the whole network."""
    depth: tuple[Positive, ...]
    """Options for the number of blocks."""
    heads: tuple[Positive, ...]
    """Options for the number of attention heads."""
    head_dim: Positive = 64
    """Channels of one head."""
    mlp_ratio: tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...] = ()
    """Options for hidden channels of an MLP / width, rounded down."""
    mlp: tuple[Positive, ...] = ()
    """Options for the hidden channels of an MLP; they replace `mlp_ratio`."""
    per: Literal["block", "network"] = "block"
    """Whether heads and MLP are chosen for every block or once for the network."""
    keep: tuple[int, ...] | None = None
    """Indices of all blocks from the most to the least important one: a smaller depth leaves out the last
    ones of this list; None: the last blocks."""
    prefix: Annotated[int, Field(ge=0)] = 1
    """Number of learned tokens before the patches: a class token and registers."""
    position: Literal["all", "patches", "none"] = "all"
    """Which tokens have learned absolute positions."""
    relative: Annotated[RelativeTablesConfig | RelativeBiasConfig, Field(discriminator="kind")] | None = None
    """Relative positions in attention."""
    pool: Literal["token", "two_tokens", "mean"] = "token"
    """Features of the classifier: the first token, the first two tokens one after the other (the class token
    and the distillation token of DeiT, Touvron et al. 2021, §4), or the mean of the patches."""
    norm_pooled: bool = False
    """Whether the last layer norm comes after the mean of the patches instead of before."""
    layer_scale: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Initial factors of LayerScale (Touvron et al. 2021, §3); None: no LayerScale."""
    qkv_bias: bool = True
    flat_qkv_bias: bool = False
    """Slice the bias of queries, keys and values as one vector, as AutoFormer does."""
    norm_eps: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1e-6
    """Epsilon of every layer norm."""

    _rising = field_validator("width", "depth", "heads")(rising)

    @field_validator("mlp_ratio", "mlp")
    @classmethod
    def _rising_if_given(cls, options: tuple[float, ...]) -> tuple[float, ...]:
        return rising(options) if options else options

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if bool(self.mlp) == bool(self.mlp_ratio):
            raise ValueError("give mlp_ratio or mlp, not both")
        if self.pool == "token" and not self.prefix:
            raise ValueError("pool: token needs a class token: give prefix >= 1 or pool: mean")
        if self.pool == "two_tokens" and (self.prefix < 2 or len(self.width) > 1):
            raise ValueError("pool: two_tokens needs prefix >= 2 and one width")
        if self.norm_pooled and self.pool != "mean":
            raise ValueError("norm_pooled needs pool: mean")
        if isinstance(self.relative, RelativeBiasConfig) and self.prefix:
            raise ValueError("relative: {kind: bias} needs prefix: 0, because only patches have distances")
        if self.keep is not None and sorted(self.keep) != list(range(self.depth[-1])):
            raise ValueError(f"keep must have each block from 0 to {self.depth[-1] - 1} once")
        self.check_resolutions()
        return self

    def check_resolutions(self) -> None:
        """Check that images consist of whole patches.

        Raises:
            ValueError: a resolution is not a multiple of the patch size.
        """
        wrong = [resolution for resolution in self.resolutions if resolution % self.patch]
        if wrong:
            raise ValueError(f"resolutions must be multiples of patch {self.patch}, got {wrong}")
