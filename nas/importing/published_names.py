"""Tensors of published checkpoints under our names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from nas.importing.foreign_checkpoint import read_state_dict

UNUSED = r"num_batches_tracked$|\.bn_tracking\."
"""Canonical names of tensors that no forward pass reads."""


def canonical(name: str) -> str:
    """A tensor's name without what differs between versions of the tools that wrote it.

    Dropped are the `module.` of distributed training and repeated levels (`bn.bn`, `conv.conv`); what an old
    class calls `mobile_inverted_conv` is called `conv`.
    """
    parts = name.removeprefix("module.").replace("mobile_inverted_conv", "conv").split(".")
    return ".".join(part for i, part in enumerate(parts) if i == 0 or part != parts[i - 1])


def published_name(name: str, modules: Mapping[str, str]) -> str:
    """The canonical name in a checkpoint of one of our tensors.

    Args:
        name: such as `stages.0.blocks.1.depthwise.norm.weight`.
        modules: for each of our layers (`stages.0.blocks.1.depthwise`) the module that holds its weight; its
            batch norm lies beside that as `bn`, the maps of learned kernels lie in it as `7to5_matrix`.
    """
    match = re.fullmatch(r"(.+?)\.(?:(norm|transforms)\.)?(\w+)", name)
    assert match
    layer, kind, part = match.groups()
    module = modules[layer]
    names = {"norm": f"{module.rpartition('.')[0]}.bn.{part}", "transforms": f"{module}.{part}_matrix"}
    return canonical(names.get(kind, f"{module}.{part}"))


def read_as(
    path: str | Path, own: Mapping[str, Tensor], modules: Mapping[str, str], unused: str = UNUSED
) -> dict[str, Tensor]:
    """The tensors of a checkpoint under our names, as float32.

    Args:
        path: the file.
        own: our tensors, which say what must be there and of which shape.
        modules: as for `published_name`.
        unused: pattern of the canonical names that may be there beyond that.

    Raises:
        ValueError: an unreadable file, or one message of all that is missing, surplus or of another shape.
    """
    missing, surplus, misshapen = [], [], []
    theirs = {name: published_name(name, modules) for name in own}
    wanted = set(theirs.values())
    found: dict[str, tuple[str, Tensor]] = {}
    for name, tensor in read_state_dict(path).items():
        known = canonical(name)
        if known in found or (known not in wanted and not re.search(unused, known)):
            surplus.append(name)
        found.setdefault(known, (name, tensor))
    tensors = {}
    for name, like in own.items():
        full_name, tensor = found.get(theirs[name], ("", like))
        if not full_name:
            missing.append(theirs[name])
        elif _shape(tensor, like) != like.shape:
            misshapen.append(f"{full_name} {tuple(tensor.shape)} instead of {tuple(like.shape)}")
        else:
            tensors[name] = tensor.reshape(like.shape).to(torch.float32)
    problems = {"missing": missing, "surplus": surplus, "of another shape": misshapen}
    if any(problems.values()):
        raise ValueError(f"{path} does not fit: {_listed(problems)}")
    return tensors


def _shape(tensor: Tensor, like: Tensor) -> torch.Size:
    """A linear layer may be written as a 1×1 convolution."""
    return tensor.shape[:2] if like.ndim == 2 and tensor.shape[2:] == (1, 1) else tensor.shape


def _listed(problems: Mapping[str, list[str]], at_most: int = 10) -> str:
    """Counts and the first names of each kind."""
    texts = []
    for kind, names in problems.items():
        if names:
            more = ", …" * (len(names) > at_most)
            texts.append(f"{len(names)} {kind} ({', '.join(names[:at_most])}{more})")
    return "; ".join(texts)


MBCONV = {
    "expand": "conv.inverted_bottleneck.conv",
    "depthwise": "conv.depth_conv.conv",
    "se.reduce": "conv.depth_conv.se.fc.reduce",
    "se.expand": "conv.depth_conv.se.fc.expand",
    "project": "conv.point_linear.conv",
    "shortcut.conv": "shortcut.conv",
}
"""Modules of an MBConv block by the role of our layer."""

MOBILENET_V3_ENDS = {
    "stem.conv": "first_conv.conv",
    "head.conv": "final_expand_layer.conv",
    "head.mix": "feature_mix_layer.conv",
    "head.classifier": "classifier.linear",
}
"""Modules of stem and head by our layer."""

PROXYLESS_ENDS = {
    "stem.conv": "first_conv.conv",
    "head.conv": "feature_mix_layer.conv",
    "head.classifier": "classifier.linear",
}

ATTENTIVENAS_ENDS = {
    "stem.conv": "first_conv.conv",
    "head.conv": "last_conv.final_expand_layer.conv",
    "head.mix": "last_conv.feature_mix_layer.conv",
    "head.classifier": "classifier.linear",
}


RESNET = {
    "conv1": "conv1.conv",
    "conv2": "conv2.conv",
    "conv3": "conv3.conv",
    "downsample.conv": "downsample.conv",
}
"""Modules of a bottleneck block by the role of our layer."""

RESNET_ENDS = {
    "stem.0.conv": "input_stem.0.conv",
    "stem.1.conv": "input_stem.1.conv.conv",
    "stem.2.conv": "input_stem.2.conv",
    "head.classifier": "classifier.linear",
}


def network_modules(
    roles: Mapping[str, str], ends: Mapping[str, str], blocks: Sequence[str]
) -> Mapping[str, str]:
    """Modules of a network by our layer.

    Args:
        roles: modules of a block.
        ends: those of stem and head.
        blocks: names of our blocks, in the order in which the checkpoint counts its own.
    """
    inner = {
        f"{block}.{role}": f"blocks.{i}.{module}"
        for i, block in enumerate(blocks)
        for role, module in roles.items()
    }
    return inner | dict(ends)
