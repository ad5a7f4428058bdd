"""The notation of OFA: `{"ks": […], "e": […], "d": […], "r": …}`.

The lists `ks` and `e` have an entry for each block at the maximum depth, `d` has one for each stage; a single
number is a list of equal entries. `r` is a number or a list of one number; the default is the largest
resolution. ResNets have `w` instead of `ks`, and `d` and `w` are indices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from nas.notation.fields import (
    Notation,
    check_keys,
    checked,
    family_config,
    integers,
    numbers,
    plain_number,
)
from search_spaces import Arch, Space
from search_spaces.arch import Value
from search_spaces.families.mbconv_config import MBConvConfig
from search_spaces.families.resnet import ResNetConfig


def arch_from_ofa(space: Space, notation: Notation) -> Arch:
    """Convert an arch from the notation of OFA.

    Raises:
        ValueError: an unknown or missing key, a wrong number of entries, or an option that the space does not
            have.
    """
    return checked(space, _of_family(space)[0](space, notation))


def arch_to_ofa(space: Space, arch: Arch) -> dict[str, Any]:
    """The inverse of `arch_from_ofa`; entries beyond the depth of a stage are the smallest option.

    Raises:
        ValueError: the family of the space is not one of OFA's, or the arch is not in the space.
    """
    return _of_family(space)[1](space, checked(space, arch))


def resolution(space: Space, notation: Notation) -> int:
    """The value of `r`, a number or a list of one number; the default is the largest one of the space."""
    if notation.get("r") is None:
        return space.resolutions[-1]
    (value,) = integers(notation, "r", 1)
    return value


def _mbconv_from_ofa(space: Space, notation: Notation) -> Arch:
    """Convert an arch of an MBConv network; the first stage, one static block, has no entries."""
    stages = family_config(space, MBConvConfig).stages
    check_keys(notation, ("ks", "e", "d"), optional=("r", "w", "wid"))
    n_blocks = sum(stage.depth[-1] for stage in stages[1:])
    kernels, expands = iter(integers(notation, "ks", n_blocks)), iter(numbers(notation, "e", n_blocks))
    values: dict[str, Value] = _fixed(space) | {"resolution": resolution(space, notation)}
    for s, depth in enumerate(integers(notation, "d", len(stages) - 1), start=1):
        if len(stages[s].depth) > 1:
            values[f"stages.{s}.depth"] = depth
        for b in range(stages[s].depth[-1]):
            values[f"stages.{s}.blocks.{b}.kernel"] = next(kernels)
            values[f"stages.{s}.blocks.{b}.expand"] = next(expands)
    return space.arch(values)


def _mbconv_to_ofa(space: Space, arch: Arch) -> dict[str, Any]:
    stages = family_config(space, MBConvConfig).stages
    blocks = [(s, b) for s, stage in enumerate(stages) if s for b in range(stage.depth[-1])]
    return {
        "ks": _per_block(space, arch, "kernel", blocks),
        "e": _per_block(space, arch, "expand", blocks),
        "d": [arch[f"stages.{s}.depth"] for s in range(1, len(stages))],
        "r": [arch["resolution"]],
    }


def _resnet_from_ofa(space: Space, notation: Notation) -> Arch:
    """Convert an arch of a ResNet.

    `d` is the number of blocks of each stage minus the minimum of the stage. The first entry of `d` is for
    the stem: with the maximum value, the stem has its middle convolution. `w` has the indices of the widths
    inside the stem, after the stem, and of the stages.
    """
    config = _resnet_config(space)
    check_keys(notation, ("d", "e", "w"), optional=("r", "ks"))
    stem_code, *extra = numbers(notation, "d", len(config.stages) + 1)
    mid, width, *widths = numbers(notation, "w", len(config.stages) + 2)
    values: dict[str, Value] = {
        "resolution": resolution(space, notation),
        "stem.depth": _option("d", _stem_depths(config), stem_code),
        "stem.mid": _option("w", config.stem.mid, mid),
        "stem.width": _option("w", config.stem.width, width),
    }
    expands = iter(numbers(notation, "e", sum(stage.depth[-1] for stage in config.stages)))
    for s, stage in enumerate(config.stages):
        values[f"stages.{s}.depth"] = _option("d", stage.depth, extra[s])
        values[f"stages.{s}.width"] = _option("w", stage.width, widths[s])
        values |= {f"stages.{s}.blocks.{b}.expand": next(expands) for b in range(stage.depth[-1])}
    return space.arch(values)


def _resnet_to_ofa(space: Space, arch: Arch) -> dict[str, Any]:
    """Convert an arch of a ResNet; if several codes describe the same network, the smallest is used."""
    config = _resnet_config(space)
    stages = [f"stages.{s}" for s in range(len(config.stages))]
    options = [config.stem.mid, config.stem.width, *(stage.width for stage in config.stages)]
    names = ["stem.mid", "stem.width", *(f"{stage}.width" for stage in stages)]
    full_stem = arch["stem.depth"] == config.stem.depth[-1]
    extra = [
        stage.depth.index(int(arch[f"{s}.depth"])) for s, stage in zip(stages, config.stages, strict=True)
    ]
    blocks = [(s, b) for s, stage in enumerate(config.stages) for b in range(stage.depth[-1])]
    return {
        "d": [_largest_stem_code(config) if full_stem else 0, *extra],
        "e": _per_block(space, arch, "expand", blocks),
        "w": [widths.index(int(arch[name])) for widths, name in zip(options, names, strict=True)],
        "r": [arch["resolution"]],
    }


def _per_block(space: Space, arch: Arch, kind: str, blocks: Iterable[tuple[int, int]]) -> list[Value]:
    """The option of a kind of choice for every block; for inactive blocks, the smallest option."""
    names = [f"stages.{s}.blocks.{b}.{kind}" for s, b in blocks]
    return [arch.get(name, plain_number(float(space.choices[name].options[0]))) for name in names]


def _fixed(space: Space) -> dict[str, Value]:
    """The values of the choices with one option."""
    return {name: choice.options[0] for name, choice in space.choices.items() if len(choice.options) == 1}


def _largest_stem_code(config: ResNetConfig) -> int:
    """OFA's code of a stem with all convolutions: the maximum minus the minimum depth of a stage."""
    return config.stages[0].depth[-1] - config.stages[0].depth[0]


def _stem_depths(config: ResNetConfig) -> tuple[int, ...]:
    """Number of convolutions of the stem for each of OFA's codes."""
    return (config.stem.depth[0],) * _largest_stem_code(config) + (config.stem.depth[-1],)


def _option(key: str, options: Sequence[int], index: Value) -> int:
    if index not in range(len(options)):
        raise ValueError(f"each {key} must be an index of {tuple(options)} at its position, got {index}")
    return options[int(index)]


def _resnet_config(space: Space) -> ResNetConfig:
    assert isinstance(space.config, ResNetConfig)  # the caller selected it by family
    return space.config


FAMILIES: dict[str, tuple[Callable[[Space, Notation], Arch], Callable[[Space, Arch], dict[str, Any]]]] = {
    "mbconv": (_mbconv_from_ofa, _mbconv_to_ofa),
    "resnet": (_resnet_from_ofa, _resnet_to_ofa),
}
"""Readers and writers of OFA's notation by the family of the space."""


def _of_family(
    space: Space,
) -> tuple[Callable[[Space, Notation], Arch], Callable[[Space, Arch], dict[str, Any]]]:
    if space.config.family not in FAMILIES:
        raise ValueError(
            f"the notation of OFA is for the families {sorted(FAMILIES)}, got {space.config.family!r}"
        )
    return FAMILIES[space.config.family]
