"""The notation of NASViT, which is that of AttentiveNAS.

The entry of `depth` of an attention stage includes its first block, which is an MBConv block.
"""

from __future__ import annotations

from typing import Any

from nas.notation.attentivenas import KEYS
from nas.notation.fields import (
    Notation,
    check_keys,
    checked,
    hybrid_config,
    integers,
    numbers,
)
from search_spaces import Arch, Space
from search_spaces.arch import Value
from search_spaces.families.hybrid_config import AttentionStageConfig


def arch_from_nasvit(space: Space, notation: Notation) -> Arch:
    """Convert an arch from the notation of NASViT.

    Raises:
        ValueError: an unknown or missing key, a wrong number of entries, or an option that the space does not
            have.
    """
    stages = hybrid_config(space).stages
    check_keys(notation, KEYS, optional=())
    stem, *widths, head = integers(notation, "width", len(stages) + 2)
    (resolution,) = integers(notation, "resolution", 1)
    depths = integers(notation, "depth", len(stages))
    kernels = integers(notation, "kernel_size", len(stages))
    expands = numbers(notation, "expand_ratio", len(stages))
    values: dict[str, Value] = {"resolution": resolution, "stem.width": stem, "head.width": head}
    options = zip(widths, depths, kernels, expands, strict=True)
    for s, (width, depth, kernel, expand) in enumerate(options):
        values |= {f"stages.{s}.width": width, f"stages.{s}.depth": depth - _first(space, s)}
        values |= {f"stages.{s}.kernel": kernel, f"stages.{s}.expand": expand}
    return checked(space, space.arch(_fixed(space) | values))


def arch_to_nasvit(space: Space, arch: Arch) -> dict[str, Any]:
    """The inverse of `arch_from_nasvit`.

    Raises:
        ValueError: the space is of another family or the arch is not in it.
    """
    stages = range(len(hybrid_config(space).stages))
    checked(space, arch)
    return {
        "resolution": arch["resolution"],
        "width": [arch[f"{part}.width"] for part in ("stem", *(f"stages.{s}" for s in stages), "head")],
        "depth": [arch[f"stages.{s}.depth"] + _first(space, s) for s in stages],
        "kernel_size": [arch[f"stages.{s}.kernel"] for s in stages],
        "expand_ratio": [arch[f"stages.{s}.expand"] for s in stages],
    }


def _first(space: Space, s: int) -> int:
    """Number of blocks of stage `s` that its depth does not count here."""
    return int(isinstance(hybrid_config(space).stages[s], AttentionStageConfig))


def _fixed(space: Space) -> dict[str, Value]:
    """The values of the ratios, which NASViT does not choose."""
    return {
        name: choice.options[0]
        for name, choice in space.choices.items()
        if choice.kind in ("value_ratio", "mlp_ratio")
    }
