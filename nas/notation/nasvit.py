"""The notation of NASViT, which is that of AttentiveNAS.

The entry of `depth` of an attention stage includes its first block, which is an MBConv block.
"""

from __future__ import annotations

from typing import Any

from nas.notation.attentivenas import notation_of, values_of
from nas.notation.fields import Notation, checked, family_config
from search_spaces import Arch, Space
from search_spaces.arch import Value
from search_spaces.families.hybrid_config import AttentionStageConfig, HybridConfig


def arch_from_nasvit(space: Space, notation: Notation) -> Arch:
    """Convert an arch from the notation of NASViT.

    Raises:
        ValueError: an unknown or missing key, a wrong number of entries, or an option that the space does not
            have.
    """
    first_blocks = _first_blocks(space)
    values = values_of(notation, list(first_blocks))
    values |= {f"{stage}.depth": values[f"{stage}.depth"] - n for stage, n in first_blocks.items()}
    return checked(space, space.arch(_fixed(space) | values))


def arch_to_nasvit(space: Space, arch: Arch) -> dict[str, Any]:
    """The inverse of `arch_from_nasvit`.

    Raises:
        ValueError: the space is of another family or the arch is not in it.
    """
    first_blocks = _first_blocks(space)
    checked(space, arch)
    depths = {f"{stage}.depth": arch[f"{stage}.depth"] + n for stage, n in first_blocks.items()}
    return notation_of({**arch, **depths}, list(first_blocks))


def _first_blocks(space: Space) -> dict[str, int]:
    """For each stage by name, the number of blocks that only the depth of NASViT includes: 0 or 1."""
    stages = family_config(space, HybridConfig).stages
    return {f"stages.{s}": int(isinstance(stage, AttentionStageConfig)) for s, stage in enumerate(stages)}


def _fixed(space: Space) -> dict[str, Value]:
    """The values of the ratios, which are constant in NASViT."""
    return {
        name: choice.options[0]
        for name, choice in space.choices.items()
        if choice.kind in ("value_ratio", "mlp_ratio")
    }
