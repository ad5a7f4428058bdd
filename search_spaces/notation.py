"""Architectures as the published tools write them, so that subnets found with those carry over.

Neither notation names what a space fixes. Entries for blocks beyond a stage's depth carry no meaning.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any, TypeVar

from search_spaces.arch import Arch, StageArch
from search_spaces.mbconv_config import MBConvConfig, StageConfig
from search_spaces.resnet import ResNetConfig
from search_spaces.space import Space
from search_spaces.text_files import read_text

Notation = Mapping[str, Any]
_Number = TypeVar("_Number", int, int | float)


def load_arch(space: Space, path: str | Path) -> Arch:
    """The arch of `space` in a JSON file, in our notation or in a published one.

    Raises:
        ValueError: the file is missing, no JSON, or does not describe an arch of the space.
    """
    try:
        text = read_text(path)
    except OSError as error:
        raise ValueError(f"cannot read the arch file {path}: {error.strerror}") from None
    try:
        content = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    published = [read for key, read in _BY_KEY.items() if isinstance(content, dict) and key in content]
    try:
        arch = published[0](space, content) if published else Arch.from_json(text, source=str(path))
    except ValueError as error:
        raise ValueError(f"{path}: {error}" if published else str(error)) from None
    space.encode([arch])  # refuses what the space does not offer
    return arch


def arch_from_ofa(space: Space, notation: Notation) -> Arch:
    """The arch that OFA's tools write as `{"ks": …, "e": …, "d": …, "r": …}`.

    `ks` and `e` have an entry for each block that a stage may have, `d` one for each stage; a plain number
    stands for a list of equal entries. `r` is a number or a list of one; without it the largest resolution
    is meant. ResNets have `w` instead of `ks`, and `d` and `w` are indices.

    Raises:
        ValueError: an unknown or missing key, a wrong number of entries, or a choice that the space has not.
    """
    return _checked(space, _ofa(space)[0](space, notation))


def arch_to_ofa(space: Space, arch: Arch) -> dict[str, Any]:
    """The inverse of `arch_from_ofa`; entries beyond a stage's depth are the smallest choice.

    Raises:
        ValueError: the space is none of OFA's families or the arch is not in it.
    """
    return _ofa(space)[1](space, _checked(space, arch))


def arch_from_attentivenas(space: Space, notation: Notation) -> Arch:
    """The arch that AttentiveNAS writes as
    `{"resolution": …, "width": …, "depth": …, "kernel_size": …, "expand_ratio": …}`.

    `width` has entries for stem, stages and head, the other lists one for each stage.

    Raises:
        ValueError: an unknown or missing key, a wrong number of entries, or a choice that the space has not.
    """
    stages = _mbconv(space).stages
    _check_keys(notation, _ATTENTIVENAS_KEYS, optional=())
    stem, *widths, head = _whole(notation, "width", len(stages) + 2)
    depths, kernels = (_whole(notation, key, len(stages)) for key in ("depth", "kernel_size"))
    expands = _entries(notation, "expand_ratio", len(stages))
    (resolution,) = _whole(notation, "resolution", 1)
    chosen = zip(widths, depths, kernels, expands, strict=True)
    arch = Arch(
        resolution=resolution,
        stem_width=stem,
        stages=tuple(
            StageArch(width, (kernel,) * depth, (expand,) * depth) for width, depth, kernel, expand in chosen
        ),
        head_width=head,
    )
    return _checked(space, arch)


def arch_to_attentivenas(space: Space, arch: Arch) -> dict[str, Any]:
    """The inverse of `arch_from_attentivenas`.

    Raises:
        ValueError: the space is of another family or the arch is not in it.
    """
    stages = _checked(space, arch).stages
    if any(config.per == "block" for config in _mbconv(space).stages):
        raise ValueError(
            f"AttentiveNAS's notation has one kernel and expand for each stage; the space {space.name!r} "
            f"chooses them for each block"
        )
    return {
        "resolution": arch.resolution,
        "width": [arch.stem_width, *(stage.width for stage in stages), arch.head_width],
        "depth": [stage.depth for stage in stages],
        "kernel_size": [stage.kernels[0] for stage in stages],
        "expand_ratio": [_number(stage.expands[0]) for stage in stages],
    }


_ATTENTIVENAS_KEYS = ("resolution", "width", "depth", "kernel_size", "expand_ratio")


def ofa_resolution(space: Space, notation: Notation) -> int:
    """What `r` says: a number or a list of one; the space's largest where it says nothing."""
    if notation.get("r") is None:
        return space.resolutions[-1]
    (resolution,) = _whole(notation, "r", 1)
    return resolution


def _mbconv_from_ofa(space: Space, notation: Notation) -> Arch:
    """OFA leaves the first stage unnamed: it is one static block."""
    config = _mbconv(space)
    _check_keys(notation, ("ks", "e", "d"), optional=("r", "w", "wid"))
    first, *elastic = config.stages
    deepest = [stage.depth[-1] for stage in elastic]
    kernels = _per_stage(_whole(notation, "ks", sum(deepest)), deepest)
    expands = _per_stage(_entries(notation, "e", sum(deepest)), deepest)
    depths = _whole(notation, "d", len(elastic))
    stages = [_fixed_stage(first)]
    for stage, depth, ks, es in zip(elastic, depths, kernels, expands, strict=True):
        blocks = depth if len(stage.depth) > 1 else stage.depth[0]
        if blocks not in stage.depth:  # more than the entries there are
            raise ValueError(f"each d must be one of {stage.depth} in the space {space.name!r}, got {depth}")
        stages.append(StageArch(stage.width[0], tuple(ks[:blocks]), tuple(es[:blocks])))
    return Arch(ofa_resolution(space, notation), config.stem.width[0], tuple(stages), config.head.width[0])


def _mbconv_to_ofa(space: Space, arch: Arch) -> dict[str, Any]:
    elastic = _mbconv(space).stages[1:]
    kernels: list[int] = []
    expands: list[int | float] = []
    for config, stage in zip(elastic, arch.stages[1:], strict=True):
        idle = config.depth[-1] - stage.depth
        kernels += [*stage.kernels, *[config.kernel[0]] * idle]
        expands += [_number(expand) for expand in (*stage.expands, *[config.expand[0]] * idle)]
    depths = [stage.depth for stage in arch.stages[1:]]
    return {"ks": kernels, "e": expands, "d": depths, "r": [arch.resolution]}


def _resnet_from_ofa(space: Space, notation: Notation) -> Arch:
    """`d` counts the blocks beyond a stage's fewest, and the stem has its middle convolution where the first
    entry is the largest; `w` has indices of widths: inside the stem, after it, of the stages."""
    config = _resnet(space)
    _check_keys(notation, ("d", "e", "w"), optional=("r", "ks"))
    deepest = [stage.depth[-1] for stage in config.stages]
    most = config.stages[0].depth[-1] - config.stages[0].depth[0]
    stem_depths = (config.stem.depth[0],) * most + (config.stem.depth[-1],)
    stem_code, *extra = _entries(notation, "d", len(deepest) + 1)
    codes = _entries(notation, "w", len(deepest) + 2)
    offered = [config.stem.mid, config.stem.width, *(stage.width for stage in config.stages)]
    mid, width, *widths = (_indexed("w", options, code) for options, code in zip(offered, codes, strict=True))
    stages = []
    expands = _per_stage(_entries(notation, "e", sum(deepest)), deepest)
    for stage, more, channels, es in zip(config.stages, extra, widths, expands, strict=True):
        depth = _indexed("d", stage.depth, more)
        stages.append(StageArch(channels, (3,) * depth, tuple(es[:depth])))
    return Arch(
        resolution=ofa_resolution(space, notation),
        stem_width=width,
        stem_mid=mid,
        stem_depth=_indexed("d", stem_depths, stem_code),
        stages=tuple(stages),
        head_width=widths[-1],
    )


def _resnet_to_ofa(space: Space, arch: Arch) -> dict[str, Any]:
    """Of several codes that give the same network, the smallest."""
    config = _resnet(space)
    most = config.stages[0].depth[-1] - config.stages[0].depth[0]
    assert arch.stem_mid is not None
    depths = [most if arch.stem_depth == config.stem.depth[-1] else 0]
    codes = [config.stem.mid.index(arch.stem_mid), config.stem.width.index(arch.stem_width)]
    expands: list[int | float] = []
    for stage, chosen in zip(config.stages, arch.stages, strict=True):
        depths.append(stage.depth.index(chosen.depth))
        codes.append(stage.width.index(chosen.width))
        expands += [*chosen.expands, *[stage.expand[0]] * (stage.depth[-1] - chosen.depth)]
    return {"d": depths, "e": expands, "w": codes, "r": [arch.resolution]}


def _indexed(key: str, options: Sequence[int], index: int | float) -> int:
    if index not in range(len(options)):
        raise ValueError(f"each {key} must be an index of {tuple(options)} here, got {index}")
    return options[int(index)]


OFA: dict[str, tuple[Callable[[Space, Notation], Arch], Callable[[Space, Arch], dict[str, Any]]]] = {
    "mbconv": (_mbconv_from_ofa, _mbconv_to_ofa),
    "resnet": (_resnet_from_ofa, _resnet_to_ofa),
}
"""Readers and writers of OFA's notation by family of spaces."""

_BY_KEY: dict[str, Callable[[Space, Notation], Arch]] = {
    "kernel_size": arch_from_attentivenas,
    "d": arch_from_ofa,
}
"""Published notations by a key that no other notation has."""


def _ofa(space: Space) -> tuple[Callable[[Space, Notation], Arch], Callable[[Space, Arch], dict[str, Any]]]:
    if space.config.family not in OFA:
        raise ValueError(f"OFA's notation is for spaces of {sorted(OFA)}, got {space.config.family!r}")
    return OFA[space.config.family]


def _mbconv(space: Space) -> MBConvConfig:
    if not isinstance(space.config, MBConvConfig):
        raise ValueError(f"this notation is for spaces of the family mbconv, got {space.config.family!r}")
    return space.config


def _resnet(space: Space) -> ResNetConfig:
    assert isinstance(space.config, ResNetConfig)  # `OFA` names the family
    return space.config


def _checked(space: Space, arch: Arch) -> Arch:
    space.encode([arch])  # refuses what the space does not offer
    return arch


def _check_keys(notation: Notation, required: Sequence[str], optional: Sequence[str]) -> None:
    missing = sorted(set(required) - notation.keys())
    unknown = sorted(notation.keys() - {*required, *optional})
    if missing or unknown:
        raise ValueError(
            f"the notation must have the keys {list(required)} and may have {list(optional)}: "
            f"missing {missing}, unknown {unknown}"
        )


def _entries(notation: Notation, key: str, n: int) -> list[int | float]:
    """The `n` entries of a list; a plain number stands for equal ones."""
    value = notation[key]
    entries = [value] * n if isinstance(value, Real) else value
    if (
        not isinstance(entries, Iterable)
        or len(entries := list(entries)) != n
        or not all(isinstance(entry, Real) for entry in entries)
    ):
        raise ValueError(f"{key} must have {n} numbers, got {value!r}")
    return [_number(float(entry)) for entry in entries]


def _whole(notation: Notation, key: str, n: int) -> list[int]:
    """The same for what is counted."""
    entries = _entries(notation, key, n)
    if not all(isinstance(entry, int) for entry in entries):
        raise ValueError(f"{key} must have whole numbers, got {notation[key]!r}")
    return [int(entry) for entry in entries]


def _per_stage(entries: list[_Number], counts: list[int]) -> list[list[_Number]]:
    ends = [sum(counts[: i + 1]) for i in range(len(counts))]
    return [entries[end - count : end] for count, end in zip(counts, ends, strict=True)]


def _fixed_stage(stage: StageConfig) -> StageArch:
    depth = stage.depth[0]
    return StageArch(stage.width[0], (stage.kernel[0],) * depth, (stage.expand[0],) * depth)


def _number(value: float) -> int | float:
    """`6` rather than `6.0`, as the published tools write it."""
    return int(value) if value == int(value) else value
