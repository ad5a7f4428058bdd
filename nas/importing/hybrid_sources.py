"""The tensors in checkpoints of NASViT and ElasticViT."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from nas.importing.published_names import ATTENTIVENAS_ENDS, MBCONV, UNUSED, canonical, published_name
from search_spaces.families.hybrid import HybridSpace
from search_spaces.families.hybrid_config import AttentionStageConfig
from search_spaces.families.mbconv_config import StageConfig

Tensors = Mapping[str, Tensor]
"""The tensors of a file by canonical name."""
Shape = tuple[int, ...]
SCALED_DEPTHS = 10
"""Number of depths for which files of NASViT have factors."""


@dataclass(frozen=True)
class FilePart:
    """The tensors of a file from which a tensor of this toolkit is made."""

    shapes: Mapping[str, Shape]
    """Shapes of the tensors of the file by canonical name."""
    value: Callable[[Tensors], Tensor]
    """Makes the tensor from the tensors of the file, with the size of the file or of the space."""


@dataclass(frozen=True)
class HybridSource:
    """The checkpoints of a tool."""

    keys: Sequence[str]
    """Keys of the sets of weights in the order of the tool's own loader."""
    ends: Sequence[str]
    """Canonical names of the first and the last weight."""
    part: Callable[[HybridSpace, str, Shape, Tensors], FilePart]
    """Finds the part of a file for a tensor of the supernet; the arguments are the space, name and shape of
    the tensor, and the tensors of the file."""
    unused: str
    """Pattern of the names of tensors that are not used."""


def _one(name: str, shape: Shape) -> FilePart:
    name = canonical(name)
    return FilePart({name: shape}, lambda read: read[name])


def _bias_table(name: str, shape: Shape, tensors: Tensors) -> FilePart:
    """A table of relative biases.

    The file has the biases by the distance from key to query, this toolkit by the distance from query to key,
    so the table is flipped. The table of a file may belong to a larger feature map.
    """
    found = tensors.get(name)
    rows = len(found) if found is not None and found.ndim == 2 else 0
    side = math.isqrt(rows)
    if side**2 != rows or side % 2 == 0 or side < shape[0]:
        side = shape[0]
    margin = (side - shape[0]) // 2
    inside = slice(margin, margin + shape[0])

    def value(read: Tensors) -> Tensor:
        table: Tensor = read[name].unflatten(0, (side, side))
        return table.flip(0, 1)[inside, inside]

    return FilePart({name: (side * side, shape[2])}, value)


def _place(name: str) -> tuple[str, int, int | None, str]:
    """Split a name into slot, stage, block (None for the first block of an attention stage), and the rest."""
    _, stage, *rest = name.split(".")
    if rest[0] == "entry":
        return f"stages.{stage}.entry", int(stage), None, ".".join(rest[1:])
    return f"stages.{stage}.blocks.{rest[1]}", int(stage), int(rest[1]), ".".join(rest[2:])


# ---------------------------------------------------------------------- NASViT

NASVIT_LAYERS = {
    "attention.norm": "norm1",
    "attention.query": "attn.q.linear",
    "attention.key": "attn.k.linear",
    "attention.value": "attn.v.linear",
    "attention.value.depthwise": "attn.vconv",
    "attention.project": "attn.proj.linear",
    "mlp.norm": "norm3",
    "mlp.expand": "mlp2.linear1.linear",
    "mlp.project": "mlp2.linear2.linear",
    "second_mlp.norm": "norm2",
    "second_mlp.expand": "mlp1.linear1.linear",
    "second_mlp.project": "mlp1.linear2.linear",
}
"""Modules of an attention block by the name of the layer in this toolkit."""
NASVIT_TENSORS = {
    "attention.attend.before_weight": "attn.proj_l.linear.weight",
    "attention.attend.before_bias": "attn.proj_l.linear.bias",
    "attention.attend.after_weight": "attn.proj_w.linear.weight",
    "attention.attend.after_bias": "attn.proj_w.linear.bias",
}
NASVIT_SCALES = {"attention": "rescale_attn", "mlp": "rescale_mlp", "second_mlp": "rescale_mlp"}
"""Module of the factors of each residual branch; both MLPs share their factors in a file."""


def _nasvit(space: HybridSpace, name: str, shape: Shape, tensors: Tensors) -> FilePart:
    if not name.startswith("stages."):
        return _one(published_name(name, ATTENTIVENAS_ENDS), shape)
    slot, s, b, layer = _place(name)
    number = _first_block(space, s)
    if b is None or not isinstance(space.config.stages[s], AttentionStageConfig):
        block = f"blocks.{number + (b or 0)}"
        modules = {f"{slot}.{role}": f"{block}.{module}" for role, module in MBCONV.items()}
        return _one(published_name(name, modules), shape)
    block = f"blocks.{number + 1 + b}"
    if layer == "attention.attend.bias":
        return _bias_table(f"{block}.attn.relative_position_bias_table", shape, tensors)
    if layer in NASVIT_TENSORS:
        return _one(f"{block}.{NASVIT_TENSORS[layer]}", shape)
    module, _, tensor = layer.rpartition(".")
    if module.endswith(".scale"):
        return _factors(space, f"{block}.{NASVIT_SCALES[module.removesuffix('.scale')]}", shape)
    return _one(f"{block}.{NASVIT_LAYERS[module]}.{tensor}", shape)


def _first_block(space: HybridSpace, s: int) -> int:
    """Number of blocks before stage `s` in a file; attention stages have an MBConv block in addition."""
    return sum(stage.depth[-1] + isinstance(stage, AttentionStageConfig) for stage in space.config.stages[:s])


def _factors(space: HybridSpace, name: str, shape: Shape) -> FilePart:
    """Factors by depth and by number of tokens; in a file, the depth includes the MBConv block."""
    scaling = space.config.attention.scaling
    assert scaling
    return FilePart({name: (SCALED_DEPTHS, scaling.period, shape[2])}, lambda read: read[name][1:])


# ---------------------------------------------------------------------- ElasticViT

ELASTICVIT_MBCONV = {
    "expand": "pw_conv",
    "expand.norm": "pw_bn",
    "depthwise": "dw_conv",
    "depthwise.norm": "dw_bn",
    "se.reduce": "se_conv1",
    "se.expand": "se_conv2",
    "project": "pwl_conv",
    "project.norm": "pwl_bn",
    "shortcut.conv": "shortcut_conv",
}
"""Modules of an MBConv block by the name of the layer in this toolkit."""
ELASTICVIT_LAYERS = {
    "attention.norm": "norm1",
    "attention.value.depthwise": "dw_v_conv",
    "attention.project": "proj",
    "mlp.norm": "norm1",
    "mlp.expand": "fc1",
    "mlp.project": "fc2",
}
ELASTICVIT_ENDS = {
    "stem.conv": "first_conv",
    "stem.conv.norm": "first_conv_bn",
    "head.conv.norm": "pre_head_norm_0",
    "head.mix": "pre_head_1",
    "head.classifier": "classifer",
}
QKV = ("attention.query", "attention.key", "attention.value")


def _elasticvit(space: HybridSpace, name: str, shape: Shape, tensors: Tensors) -> FilePart:
    module, _, tensor = name.rpartition(".")
    if name == "head.conv.weight":
        linear = "pre_head_0.weight"
        return FilePart({linear: shape[:2]}, lambda read: read[linear][..., None, None])
    if name == "head.conv.norm.running_mean":
        return _mean_without_bias("pre_head_norm_0.running_mean", "pre_head_0.bias", shape)
    if not name.startswith("stages."):
        return _one(f"{ELASTICVIT_ENDS[module]}.{tensor}", shape)
    _, s, b, layer = _place(name)
    stage = space.config.stages[s]
    layers = f"feature_exactor.{s - 1}.layers" if s else "conv_stem.layers"
    module, _, tensor = layer.rpartition(".")
    if not isinstance(stage, AttentionStageConfig) or b is None:
        role = module.removesuffix(".norm")
        block = f"{layers}.0.reduction" if b is None else f"{layers}.{b}.0"
        width = stage.width[-1]
        return _one(f"{block}.{ELASTICVIT_MBCONV[module]}.{tensor}", _mbconv_shape(role, stage, width, shape))
    if layer == "attention.attend.bias":
        return _bias_table(f"{layers}.{2 * b}.attention_bias", shape, tensors)
    if module in QKV:
        return _rows(f"{layers}.{2 * b}.qkv.weight", QKV.index(module), stage, shape)
    block = f"{layers}.{2 * b + module.startswith('mlp')}"
    return _one(f"{block}.{ELASTICVIT_LAYERS[module]}.{tensor}", shape)


def _mean_without_bias(mean: str, bias: str, shape: Shape) -> FilePart:
    """The mean of a batch norm, from which the bias of the previous layer is subtracted."""
    return FilePart({mean: shape, bias: shape}, lambda read: read[mean] - read[bias])


def _mbconv_shape(role: str, stage: StageConfig, width: int, shape: Shape) -> Shape:
    """Shape of a tensor of an MBConv block in a file, which depends on `width`, its input channels."""
    inner = int(width * stage.expand[-1])
    hidden = inner // 4
    sizes = {
        "expand": (inner, width),
        "depthwise": (inner, 1),
        "se.reduce": (hidden, inner),
        "se.expand": (inner, hidden),
        "project": (width, inner),
        "shortcut.conv": (width, width),
    }[role]
    return (*sizes[: len(shape)], *shape[2:])


def _rows(name: str, part: int, stage: AttentionStageConfig, shape: Shape) -> FilePart:
    """The rows of queries, keys or values in a fused tensor; queries and keys have `width` rows each."""
    width = stage.width[-1]
    rows = width * (2 + stage.value_ratio[-1])
    start = part * width
    return FilePart({name: (rows, width)}, lambda read: read[name][start : start + shape[0]])


SOURCES: Mapping[str, HybridSource] = {
    "nasvit": HybridSource(
        keys=("model_ema", "model", ""),
        ends=("first_conv.conv.weight", "classifier.linear.weight"),
        part=_nasvit,
        unused=rf"{UNUSED}|\.conv\.rescale$|\.relative_position_index$|^blocks\.\d+\.shortcut\.",
    ),
    "elasticvit": HybridSource(
        keys=("model_ema", "state_dict", ""),
        ends=("first_conv.weight", "classifer.weight"),
        part=_elasticvit,
        # 1x1 convolutions in shortcuts between equal widths are never executed
        unused=rf"{UNUSED}|\.shortcut_conv\.weight$|\.relative_position_index$",
    ),
}
"""The sources by name."""
