"""The hybrid family: stages of MBConv blocks, then stages of attention on feature maps.

It covers the spaces of NASViT (Gong et al. 2022) and ElasticViT (Tang et al. 2023), and custom spaces. Each
residual branch (attention, MLP) is a separate slot. Attention has a depthwise convolution on its values and
a relative position bias for each head. Layer norms normalize all tokens together.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import partial

from search_spaces.building import BlockBuilder
from search_spaces.choices import Choice, Kind, listed
from search_spaces.families.hybrid_config import AttentionStageConfig, ConvStageConfig
from search_spaces.families.hybrid_config import HybridConfig as HybridConfig
from search_spaces.families.mbconv import (
    add_head,
    add_mbconv,
    map_size,
    stage_choices,
    stage_rows,
    stage_slots,
    stem_slot,
    with_end_choices,
)
from search_spaces.graph import BLOCK_INPUT, Block
from search_spaces.operators import (
    ACTIVATIONS,
    Add,
    Attention,
    Concat,
    ImageToTokens,
    LayerNorm,
    Linear,
    RelativeBias,
    Scale,
    Slice,
    TokensToImage,
)
from search_spaces.space import Slot, Space
from search_spaces.tensors import TensorSpec, image, tokens

MLPS = ("mlp", "second_mlp")
"""Names of the MLPs of a block."""


class HybridSpace(Space):
    """A space of the hybrid family."""

    config: HybridConfig

    def __init__(self, config: HybridConfig) -> None:
        super().__init__(config, _choices(config), _slots(config))

    def stages(self) -> list[dict[str, str]]:
        """See `Space.stages`."""
        columns = {"attention": "", "value ratio": "", "MLP": ""}
        rows = [row | columns for row in stage_rows(self.config)]
        for row, stage in zip(rows[1:-1], self.config.stages, strict=True):
            if isinstance(stage, AttentionStageConfig):
                row["attention"] = f"heads of {self.config.attention.head_dim}"
                row["value ratio"] = listed(stage.value_ratio)
                row["MLP"] = f"{listed(stage.mlp_ratio)} x width"
        return rows


def _choices(config: HybridConfig) -> list[Choice]:
    choices: list[Choice] = []
    for s, stage in enumerate(config.stages):
        own = stage_choices(s, stage)
        if isinstance(stage, ConvStageConfig):
            choices += [choice for choice in own if choice.kind != "width" or not stage.same_width]
            continue
        ratios: list[tuple[Kind, tuple[float, ...]]] = [
            ("value_ratio", stage.value_ratio),
            ("mlp_ratio", stage.mlp_ratio),
        ]
        choices += own + [Choice(f"stages.{s}.{kind}", kind, options, s) for kind, options in ratios]
    return with_end_choices(config, choices)


def _slots(config: HybridConfig) -> list[Slot]:
    slots = [stem_slot(config)]
    entry = "stem.width"
    stride: int = config.stem.stride
    for s, stage in enumerate(config.stages):
        if isinstance(stage, AttentionStageConfig):
            slots += _attention_slots(config, s, stage, entry, stride)
        elif stage.same_width:
            slots += [_with_width(slot, s, entry) for slot in stage_slots(config, s, stage, entry, stride)]
        else:
            slots += stage_slots(config, s, stage, entry, stride)
        stride *= stage.stride
        if not (isinstance(stage, ConvStageConfig) and stage.same_width):
            entry = f"stages.{s}.width"
    return [*slots, Slot("head", ("resolution", entry, "head.width"), partial(_head, config, stride))]


def _with_width(slot: Slot, s: int, entry: str) -> Slot:
    """A slot of stage `s` whose width is the choice `entry`."""
    return replace(
        slot, choices=tuple(entry if name == f"stages.{s}.width" else name for name in slot.choices)
    )


def _attention_slots(
    config: HybridConfig, s: int, stage: AttentionStageConfig, entry: str, stride: int
) -> list[Slot]:
    width, depth = f"stages.{s}.width", f"stages.{s}.depth"
    build = partial(_entry, config, stage, s, stride)
    choices = ("resolution", entry, width, f"stages.{s}.kernel", f"stages.{s}.expand")
    slots = [Slot(f"stages.{s}.entry", choices, build, s)]
    common = ("resolution", width, *((depth,) if config.attention.scaling else ()))
    branches = [("attention", "value_ratio", _attention)]
    branches += [(name, "mlp_ratio", _mlp) for name in MLPS[: config.attention.mlps]]
    for b in range(stage.depth[-1]):
        for branch, ratio, build_branch in branches:
            name = f"stages.{s}.blocks.{b}.{branch}"
            after_entry = b == 0 and branch == "attention"
            build_block = partial(build_branch, config, name, stride * stage.stride, after_entry)
            slots.append(Slot(name, (f"stages.{s}.{ratio}", *common), build_block, s, depth, b))
    return slots


def _tokens(channels: int, side: int) -> TensorSpec:
    return tokens(side * side, channels)


def _entry(
    config: HybridConfig,
    stage: AttentionStageConfig,
    s: int,
    stride: int,
    resolution: int,
    c_in: int,
    width: int,
    kernel: int,
    expand: float,
) -> Block:
    """The MBConv block of an attention stage; after an attention stage, it converts tokens to an image."""
    side = map_size(resolution, stride)
    from_tokens = s > 0 and isinstance(config.stages[s - 1], AttentionStageConfig)
    source = _tokens(c_in, side) if from_tokens else image(c_in, side)
    block = BlockBuilder(f"stages.{s}.entry", source, norm_eps=config.norm_eps)
    if from_tokens:
        block.add(TokensToImage((side, side)), "image")
    add_mbconv(config, stage, block, stage.stride, width, kernel, expand)
    return block.build()


def _attention(
    config: HybridConfig,
    name: str,
    stride: int,
    after_entry: bool,
    ratio: int,
    resolution: int,
    width: int,
    depth: int = 0,
) -> Block:
    attention, side = config.attention, map_size(resolution, stride)
    source = image(width, side) if after_entry else _tokens(width, side)
    block = BlockBuilder(name, source)
    start = block.add(ImageToTokens(), "tokens") if after_entry else BLOCK_INPUT
    norm = block.add(LayerNorm(attention.norm_eps, over_tokens=True), "norm")
    channels = {"query": width, "key": width, "value": ratio * width}
    parts = [block.add(Linear(size, attention.qkv_bias), part, norm) for part, size in channels.items()]
    heads = width // attention.head_dim
    if attention.mixed_channels:
        parts = _by_head(block, parts, heads)
    query, key, value = parts
    block.add(TokensToImage((side, side)), "value.image", value)
    block.conv("value.depthwise", ratio * width, kernel=3, groups=ratio * width, norm=False)
    value = block.add(ImageToTokens(), "value.tokens")
    attend = Attention(heads, RelativeBias((side, side)), attention.talking_heads)
    block.add(attend, "attend", query, key, value)
    block.add(ACTIVATIONS[attention.activation], "attend.act")
    block.linear("project", width, bias=True)
    return _with_shortcut(config, block, start, side, depth)


def _by_head(block: BlockBuilder, parts: list[int], heads: int) -> list[int]:
    """Split the concatenation of `parts` into heads, and each head into its queries, keys and values."""
    sizes = [block.spec(part).channels // heads for part in parts]
    ends = list(itertools.accumulate(sizes))
    joined = block.add(Concat(), "qkv", *parts)
    names = ("head_query", "head_key", "head_value")
    return [
        block.add(Slice(end - size, end, heads), name, joined)
        for name, size, end in zip(names, sizes, ends, strict=True)
    ]


def _mlp(
    config: HybridConfig,
    name: str,
    stride: int,
    after_entry: bool,
    ratio: float,
    resolution: int,
    width: int,
    depth: int = 0,
) -> Block:
    side = map_size(resolution, stride)
    block = BlockBuilder(name, _tokens(width, side))
    block.add(LayerNorm(config.attention.norm_eps, over_tokens=True), "norm")
    block.linear("expand", int(width * ratio), bias=True, activation=config.attention.activation)
    block.linear("project", width, bias=True)
    return _with_shortcut(config, block, BLOCK_INPUT, side, depth)


def _with_shortcut(config: HybridConfig, block: BlockBuilder, start: int, side: int, depth: int) -> Block:
    scaling = config.attention.scaling
    if scaling:
        width = block.spec(block.last).channels
        option = (depth, side * side % scaling.period)
        block.add(Scale(scaling.init, option=option, multiplier=scaling.period / width), "scale")
    block.combine(Add(), "shortcut", start, block.last)
    return block.build()


def _head(config: HybridConfig, stride: int, resolution: int, c_in: int, width: int) -> Block:
    side = map_size(resolution, stride)
    block = BlockBuilder("head", _tokens(c_in, side), norm_eps=config.norm_eps)
    block.add(TokensToImage((side, side)), "image")
    add_head(config, block, width)
    return block.build()
