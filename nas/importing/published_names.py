"""Names of tensors in published checkpoints."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

UNUSED = r"num_batches_tracked$|\.bn_tracking\."
"""Canonical names of tensors that no forward pass reads."""
WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
"""Levels of a name that torch adds: distributed training, `torch.compile`, sharding, checkpointing."""


def canonical(name: str) -> str:
    """A tensor's name without what differs between versions of the tools that wrote it.

    Dropped are the levels of `WRAPPERS` and repeated levels (`bn.bn`, `conv.conv`); what an old class calls
    `mobile_inverted_conv` is called `conv`.
    """
    parts = [part for part in name.replace("mobile_inverted_conv", "conv").split(".") if part not in WRAPPERS]
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
