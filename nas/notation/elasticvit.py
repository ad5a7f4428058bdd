"""The notation of ElasticViT.

An arch is a list of ten entries: the resolution, then lists of widths and depths (stem and six stages), of
expand ratios and kernels of all MBConv blocks, and of MLP ratios, heads, windows, and ratios of queries and
of values of all attention blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nas.notation.fields import checked, family_config, integers, numbers
from search_spaces import Arch, Space
from search_spaces.arch import Value
from search_spaces.families.hybrid_config import AttentionStageConfig, HybridConfig

ENTRIES = (
    "resolution",
    "widths",
    "depths",
    "conv ratios",
    "kernels",
    "MLP ratios",
    "heads",
    "windows",
    "query ratios",
    "value ratios",
)
"""The entries of the list, as messages name them."""


def arch_from_elasticvit(space: Space, notation: Sequence[Any]) -> Arch:
    """Convert an arch from the notation of ElasticViT.

    Raises:
        ValueError: a wrong number of entries, different options for the blocks of a stage, or an option that
            the space does not have.
    """
    config = family_config(space, HybridConfig)
    entries = _named(notation)
    widths = integers(entries, "widths", len(config.stages))
    depths = integers(entries, "depths", len(config.stages))
    attention = [isinstance(stage, AttentionStageConfig) for stage in config.stages]
    convs = sum(depth for depth, other in zip(depths, attention, strict=True) if not other)
    blocks = sum(depths) - convs
    per_conv = {
        "expand": iter(numbers(entries, "conv ratios", convs)),
        "kernel": iter(numbers(entries, "kernels", convs)),
    }
    heads = iter(integers(entries, "heads", blocks))
    per_attention = {
        "mlp_ratio": iter(numbers(entries, "MLP ratios", blocks)),
        "value_ratio": iter(numbers(entries, "value ratios", blocks)),
    }
    for key in ("windows", "query ratios"):
        if any(entry != 1 for entry in numbers(entries, key, blocks)):
            raise ValueError(f"{key} must all be 1, got {entries[key]!r}")
    (resolution,) = integers(entries, "resolution", 1)
    values: dict[str, Value] = {"resolution": resolution, "stem.width": widths[0]}
    for s, (width, depth) in enumerate(zip(widths, depths, strict=True)):
        values |= {f"stages.{s}.width": width, f"stages.{s}.depth": depth}
        for kind, rest in (per_attention if attention[s] else per_conv).items():
            values[f"stages.{s}.{kind}"] = _only([next(rest) for _ in range(depth)], kind, s)
        if attention[s]:
            for count in [next(heads) for _ in range(depth)]:
                if count * config.attention.head_dim != width:
                    raise ValueError(
                        f"heads must be widths / {config.attention.head_dim}, got {count} for a width of "
                        f"{width}"
                    )
    fixed = {name: c.options[0] for name, c in space.choices.items() if len(c.options) == 1}
    return checked(space, space.arch(fixed | values))


def arch_to_elasticvit(space: Space, arch: Arch) -> list[Any]:
    """The inverse of `arch_from_elasticvit`.

    Raises:
        ValueError: the space is of another family or the arch is not in it.
    """
    config = family_config(space, HybridConfig)
    checked(space, arch)
    stages = [f"stages.{s}" for s in range(len(config.stages))]
    widths = [arch.get(f"{stage}.width", arch["stem.width"]) for stage in stages]
    depths = [int(arch[f"{stage}.depth"]) for stage in stages]
    attention = [isinstance(stage, AttentionStageConfig) for stage in config.stages]

    def per_block(kind: str, of_attention: bool) -> list[Value]:
        return [
            arch[f"{stage}.{kind}"]
            for stage, depth, other in zip(stages, depths, attention, strict=True)
            for _ in range(depth)
            if other == of_attention
        ]

    head_dim = config.attention.head_dim
    blocks = zip(widths, depths, attention, strict=True)
    heads = [int(width) // head_dim for width, depth, other in blocks if other for _ in range(depth)]
    ones = [1] * len(heads)
    convolutions = [per_block("expand", False), per_block("kernel", False)]
    ratios = [per_block("mlp_ratio", True), heads, ones, ones, per_block("value_ratio", True)]
    return [arch["resolution"], widths, depths, *convolutions, *ratios]


def _named(notation: Sequence[Any]) -> dict[str, Any]:
    if isinstance(notation, str) or not isinstance(notation, Sequence) or len(notation) != len(ENTRIES):
        raise ValueError(
            f"the notation must be a list of {len(ENTRIES)} entries ({', '.join(ENTRIES)}), got "
            f"{notation!r:.100}"
        )
    return dict(zip(ENTRIES, notation, strict=True))


def _only(options: Sequence[Value], kind: str, s: int) -> Value:
    """The option that all blocks of a stage have."""
    if len(set(options)) > 1:
        raise ValueError(f"the {kind} must be equal in all blocks of stage {s}, got {list(options)}")
    return options[0]
