"""The notation of AttentiveNAS and AlphaNet.

An arch is written as
`{"resolution": …, "width": […], "depth": […], "kernel_size": […], "expand_ratio": […]}`. The list `width` has
entries for the stem, the stages and the head; the other lists have one for each stage.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nas.notation.fields import Notation, check_keys, checked, family_config, integers, numbers
from search_spaces import Arch, Space
from search_spaces.arch import Value
from search_spaces.families.mbconv_config import MBConvConfig

KEYS = ("resolution", "width", "depth", "kernel_size", "expand_ratio")


def arch_from_attentivenas(space: Space, notation: Notation) -> Arch:
    """Convert an arch from the notation of AttentiveNAS.

    Raises:
        ValueError: an unknown or missing key, a wrong number of entries, or an option that the space does not
            have.
    """
    return checked(space, Arch(values_of(notation, _stages(space))))


def arch_to_attentivenas(space: Space, arch: Arch) -> dict[str, Any]:
    """The inverse of `arch_from_attentivenas`.

    Raises:
        ValueError: the space is of another family or the arch is not in it.
    """
    stages = _stages(space)
    return notation_of(checked(space, arch), stages)


def values_of(notation: Notation, stages: Sequence[str]) -> dict[str, Value]:
    """The values of an arch by the names of their choices.

    Args:
        notation: the arch in the notation of AttentiveNAS.
        stages: names of the stages.

    Raises:
        ValueError: an unknown or missing key, or a wrong number of entries.
    """
    check_keys(notation, KEYS, optional=())
    stem, *widths, head = integers(notation, "width", len(stages) + 2)
    (resolution,) = integers(notation, "resolution", 1)
    depths = integers(notation, "depth", len(stages))
    kernels = integers(notation, "kernel_size", len(stages))
    expands = numbers(notation, "expand_ratio", len(stages))
    values: dict[str, Value] = {"resolution": resolution, "stem.width": stem}
    for stage, width, depth, kernel, expand in zip(stages, widths, depths, kernels, expands, strict=True):
        values |= {f"{stage}.width": width, f"{stage}.depth": depth}
        values |= {f"{stage}.kernel": kernel, f"{stage}.expand": expand}
    return values | {"head.width": head}


def notation_of(values: Mapping[str, Value], stages: Sequence[str]) -> dict[str, Any]:
    """The inverse of `values_of`."""
    return {
        "resolution": values["resolution"],
        "width": [values[f"{part}.width"] for part in ("stem", *stages, "head")],
        "depth": [values[f"{stage}.depth"] for stage in stages],
        "kernel_size": [values[f"{stage}.kernel"] for stage in stages],
        "expand_ratio": [values[f"{stage}.expand"] for stage in stages],
    }


def _stages(space: Space) -> list[str]:
    """Names of the stages.

    Raises:
        ValueError: a stage has a kernel or expand ratio for each block.
    """
    stages = family_config(space, MBConvConfig).stages
    if any(stage.per == "block" for stage in stages):
        raise ValueError(
            f"the notation of AttentiveNAS has one kernel and expand ratio for each stage, but the space "
            f"{space.name!r} has them for each block"
        )
    return [f"stages.{s}" for s in range(len(stages))]
