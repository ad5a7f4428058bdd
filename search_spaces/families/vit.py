"""The family of vision transformers (Dosovitskiy et al. 2021): a sequence of blocks with equal token width.

It covers the spaces of AutoFormer and PreNAS, the choices of DyNAS-T for ViT, networks of torchvision and
timm, and custom spaces. The attention and the MLP of a block are separate slots.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from search_spaces.building import BlockBuilder
from search_spaces.choices import Choice, Kind, listed
from search_spaces.families.vit_config import RelativeTablesConfig
from search_spaces.families.vit_config import ViTConfig as ViTConfig
from search_spaces.graph import BLOCK_INPUT, Block
from search_spaces.operators import (
    Add,
    AddPositions,
    Attention,
    Concat,
    Gelu,
    ImageToTokens,
    LayerNorm,
    Linear,
    MeanTokens,
    PrependTokens,
    RelativeBias,
    RelativeTables,
    Scale,
    TakeToken,
)
from search_spaces.operators.linear import Conv2d
from search_spaces.space import RankableSpace, Slot
from search_spaces.tensors import TensorSpec, image, tokens


class ViTSpace(RankableSpace):
    """A space of the family of vision transformers."""

    config: ViTConfig

    def __init__(self, config: ViTConfig) -> None:
        config.check_resolutions()
        super().__init__(config, _choices(config), _slots(config))

    @property
    def is_ranked(self) -> bool:
        """See `RankableSpace`."""
        return self.config.keep is not None

    @property
    def unranked(self) -> ViTSpace:
        """See `RankableSpace`."""
        return ViTSpace(self.config.model_copy(update={"keep": None}))

    def with_ranking(self, ranking: Mapping[str, Sequence[int]]) -> ViTSpace:
        """See `RankableSpace`."""
        if "depth" not in ranking:
            return self
        blocks = self.config.keep or range(self.config.depth[-1])
        keep = tuple(blocks[position] for position in ranking["depth"])
        return ViTSpace(self.config.model_copy(update={"keep": keep}))

    def stages(self) -> list[dict[str, str]]:
        """See `Space.stages`."""
        config = self.config
        mlp = listed(config.mlp) if config.mlp else f"{listed(config.mlp_ratio)} x width"
        row = {
            "stage": "stages.0",
            "width": listed(config.width),
            "depth": listed(config.depth),
            "heads": listed(config.heads),
            "head dim": str(config.head_dim),
            "MLP": mlp,
            "chosen per": config.per,
            "patch": str(config.patch),
        }
        return [row]


def _choices(config: ViTConfig) -> list[Choice]:
    choices = [
        Choice("resolution", "resolution", config.resolutions),
        Choice("width", "width", config.width, 0),
        Choice("depth", "depth", config.depth, 0),
    ]
    kind, options = _mlp(config)
    parts: list[tuple[Kind, tuple[float, ...]]] = [("heads", config.heads), (kind, options)]
    if config.per == "network":
        return choices + [Choice(kind, kind, options, 0) for kind, options in parts]
    return choices + [
        Choice(f"stages.0.blocks.{b}.{kind}", kind, options, 0, b, "depth", _rank(config, b))
        for b in range(config.depth[-1])
        for kind, options in parts
    ]


def _mlp(config: ViTConfig) -> tuple[Kind, tuple[float, ...]]:
    return ("mlp", config.mlp) if config.mlp else ("mlp_ratio", config.mlp_ratio)


def _rank(config: ViTConfig, block: int) -> int:
    """Position of a block in the order in which depths add blocks."""
    return block if config.keep is None else config.keep.index(block)


def _slots(config: ViTConfig) -> list[Slot]:
    slots = [Slot("stem", ("resolution", "width"), partial(_stem, config))]
    for b in range(config.depth[-1]):
        prefix = f"stages.0.blocks.{b}." if config.per == "block" else ""
        for part, choice, build in (
            ("attention", "heads", _attention),
            ("mlp", _mlp(config)[0], _mlp_block),
        ):
            name = f"stages.0.blocks.{b}.{part}"
            choices = ("resolution", "width", f"{prefix}{choice}")
            slots.append(Slot(name, choices, partial(build, config, name), 0, "depth", _rank(config, b)))
    return [*slots, Slot("head", ("resolution", "width"), partial(_head, config))]


def _grid(config: ViTConfig, resolution: int) -> tuple[int, int]:
    return (resolution // config.patch,) * 2


def _tokens(config: ViTConfig, resolution: int, width: int) -> TensorSpec:
    height, grid_width = _grid(config, resolution)
    return tokens(config.prefix + height * grid_width, width)


def _stem(config: ViTConfig, resolution: int, width: int) -> Block:
    grid = _grid(config, resolution)
    block = BlockBuilder("stem", image(config.channels, resolution))
    block.add(Conv2d(width, (config.patch,) * 2, (config.patch,) * 2, bias=True), "patch")
    block.add(ImageToTokens(), "tokens")
    if config.position == "patches":
        block.add(AddPositions(grid), "position")
    if config.prefix:
        block.add(PrependTokens(config.prefix), "prefix")
    if config.position == "all":
        block.add(AddPositions(grid, config.prefix), "position")
    return block.build()


def _attention(config: ViTConfig, name: str, resolution: int, width: int, heads: int) -> Block:
    block = BlockBuilder(name, _tokens(config, resolution, width))
    block.add(LayerNorm(config.norm_eps), "norm")
    channels = 3 * heads * config.head_dim
    block.add(Linear(channels, config.qkv_bias, parts=3, flat_bias=config.flat_qkv_bias), "qkv")
    block.add(Attention(heads, _relative(config, resolution)), "attend")
    block.linear("project", width, bias=True)
    return _with_shortcut(config, block)


def _relative(config: ViTConfig, resolution: int) -> RelativeTables | RelativeBias | None:
    grid = _grid(config, resolution)
    if config.relative is None:
        return None
    if isinstance(config.relative, RelativeTablesConfig):
        return RelativeTables(grid, config.prefix, config.relative.distance)
    return RelativeBias(grid)


def _mlp_block(config: ViTConfig, name: str, resolution: int, width: int, option: float) -> Block:
    hidden = int(option) if config.mlp else int(width * option)
    block = BlockBuilder(name, _tokens(config, resolution, width))
    block.add(LayerNorm(config.norm_eps), "norm")
    block.linear("expand", hidden, bias=True)
    block.add(Gelu(), "expand.act")
    block.linear("project", width, bias=True)
    return _with_shortcut(config, block)


def _with_shortcut(config: ViTConfig, block: BlockBuilder) -> Block:
    if config.layer_scale is not None:
        block.add(Scale(config.layer_scale), "scale")
    block.add(Add(), "shortcut", BLOCK_INPUT, block.last)
    return block.build()


def _head(config: ViTConfig, resolution: int, width: int) -> Block:
    block = BlockBuilder("head", _tokens(config, resolution, width))
    if config.pool == "token":
        block.add(TakeToken(), "pool")  # normalizing one token is cheaper than normalizing all
        block.add(LayerNorm(config.norm_eps), "norm")
    elif config.pool == "two_tokens":
        norm = block.add(LayerNorm(config.norm_eps), "norm")
        first, second = (block.add(TakeToken(i), f"pool.{i}", norm) for i in range(2))
        block.add(Concat(), "join", first, second)
    elif config.norm_pooled:
        block.add(MeanTokens(config.prefix), "pool")
        block.add(LayerNorm(config.norm_eps), "norm")
    else:
        block.add(LayerNorm(config.norm_eps), "norm")
        block.add(MeanTokens(config.prefix), "pool")
    block.linear("classifier", config.outputs, bias=True)
    return block.build()
