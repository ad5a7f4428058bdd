"""Names of tensors in published checkpoints."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

UNUSED = r"num_batches_tracked$|\.bn_tracking\."
"""Pattern of the canonical names of tensors that a forward pass does not use."""
WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
"""Parts of a name that torch adds: for distributed training, `torch.compile`, sharding, checkpointing."""


def canonical(name: str) -> str:
    """Canonical form of a tensor's name, which is the same for all versions of a tool.

    The parts in `WRAPPERS` and repeated parts (`bn.bn`, `conv.conv`) are removed, and the old name
    `mobile_inverted_conv` is replaced by `conv`.
    """
    parts = [part for part in name.replace("mobile_inverted_conv", "conv").split(".") if part not in WRAPPERS]
    return ".".join(part for i, part in enumerate(parts) if i == 0 or part != parts[i - 1])


def published_name(name: str, modules: Mapping[str, str]) -> str:
    """The canonical name in a checkpoint of a tensor of this toolkit.

    Args:
        name: name of the tensor, such as `stages.0.blocks.1.depthwise.norm.weight`.
        modules: module of the weight in the checkpoint for each layer (`stages.0.blocks.1.depthwise`). Its
            batch norm is `bn` in the parent module, and its kernel transforms are named as `7to5_matrix` in
            the module itself.
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
"""Modules of an MBConv block by the name of the layer in this toolkit."""

MOBILENET_V3_ENDS = {
    "stem.conv": "first_conv.conv",
    "head.conv": "final_expand_layer.conv",
    "head.mix": "feature_mix_layer.conv",
    "head.classifier": "classifier.linear",
}
"""Modules of stem and head by layer."""

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
"""Modules of a bottleneck block by the name of the layer in this toolkit."""

RESNET_ENDS = {
    "stem.0.conv": "input_stem.0.conv",
    "stem.1.conv": "input_stem.1.conv.conv",
    "stem.2.conv": "input_stem.2.conv",
    "head.classifier": "classifier.linear",
}


def network_modules(
    roles: Mapping[str, str], ends: Mapping[str, str], blocks: Sequence[str]
) -> Mapping[str, str]:
    """Modules of a network by layer.

    Args:
        roles: modules of a block by layer.
        ends: modules of stem and head by layer.
        blocks: names of the blocks in this toolkit, in the order of the blocks in the checkpoint.
    """
    inner = {
        f"{block}.{role}": f"blocks.{i}.{module}"
        for i, block in enumerate(blocks)
        for role, module in roles.items()
    }
    return inner | dict(ends)
