"""The checkpoints of each source of vision transformers."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from nas.importing.positions import Resample, as_timm, as_torchvision
from nas.importing.vit_names import AUTOFORMER_NAMES, TIMM_NAMES, TORCHVISION_NAMES, ViTNames
from search_spaces.families.vit_config import ViTConfig

Tensors = Mapping[str, Tensor]
"""The tensors of a file by canonical name."""
NO_TENSOR = r"(?!)"
LAYER_SCALE = 1e-5
"""Initial value of a LayerScale; it does not matter, because the weights of the file replace it."""


@dataclass(frozen=True)
class ViTSource:
    """The checkpoints of a tool."""

    names: ViTNames
    keys: Sequence[str]
    """Keys of the sets of weights in the order of the tool's own loader; empty for the file itself."""
    network: Callable[[ViTConfig, Tensors], Mapping[str, Any]]
    """Returns the keys of the config that the tool and the tensors of a file determine."""
    interleaved: frozenset[str] = frozenset()
    """The tensors of queries, keys and values whose rows are interleaved: query, key, value, query, ..."""
    wider: bool = False
    """Whether the tokens in a file have the width of all heads, of which subnets use the first channels."""
    resample: Resample | None = None
    """Resamples positions for another resolution; None: a file of another resolution is an error."""
    spellings: Mapping[str, str] = field(default_factory=dict)
    """Names of other versions of the tool: patterns and their replacements."""
    rewrite: Callable[[Tensors], Tensors] = lambda tensors: tensors
    """Returns the tensors of an equal network that the family can express."""
    unused: str = NO_TENSOR
    """Pattern of the names of tensors that are not used."""


def patch_grid(positions: Tensor | None, prefix: int) -> int | None:
    """Side of the square grid of patches that have these positions; None if it is not square."""
    n = positions.shape[1] - prefix if positions is not None and positions.ndim == 3 else 0
    return math.isqrt(n) if n > 0 and math.isqrt(n) ** 2 == n else None


def names_in_file(names: ViTNames, config: ViTConfig) -> ViTNames:
    """The names in the file of a network; in timm, the last norm has another name after the pooling."""
    if names.pooled_norm and config.norm_pooled:
        return replace(names, ends={**names.ends, "head.norm": names.pooled_norm})
    return names


def _autoformer(config: ViTConfig, tensors: Tensors) -> dict[str, Any]:
    return {"flat_qkv_bias": True, "norm_eps": 1e-5, "outputs": _outputs(AUTOFORMER_NAMES, config, tensors)}


def _prenas(config: ViTConfig, tensors: Tensors) -> dict[str, Any]:
    """Limit the depths to the blocks of the file: supernet B of PreNAS has fewer blocks than AutoFormer's."""
    update = _autoformer(config, tensors) | {"flat_qkv_bias": False}
    numbers = {int(match[1]) for name in tensors if (match := re.match(r"blocks\.(\d+)\.", name))}
    blocks = max(numbers, default=-1) + 1
    if blocks in config.depth:
        update["depth"] = tuple(depth for depth in config.depth if depth <= blocks)
    return update


def _torchvision(config: ViTConfig, tensors: Tensors) -> dict[str, Any]:
    fixed = {"prefix": 1, "position": "all", "pool": "token", "qkv_bias": True}
    return _plain(TORCHVISION_NAMES, config, tensors) | fixed


def _timm(config: ViTConfig, tensors: Tensors) -> dict[str, Any]:
    names = TIMM_NAMES
    registers = tensors.get(str(names.registers))
    count = registers.shape[1] if registers is not None and registers.ndim == 3 else 0
    update = _plain(names, config, tensors) | {"prefix": min(config.prefix, 1) + count}
    table = tensors.get(names.positions)
    if patch_grid(table, update["prefix"]):
        update["position"] = "all"
    elif patch_grid(table, 0):
        update["position"] = "patches"
    if f"{names.pooled_norm}.weight" in tensors:
        update |= {"pool": "mean", "norm_pooled": True}
    if _n_pooled(tensors) == 2:
        update["pool"] = "two_tokens"
    return update


def _n_pooled(tensors: Tensors) -> int:
    """Number of tokens that the classifier of timm reads."""
    weight, token = tensors.get("head.weight"), tensors.get(TIMM_NAMES.class_token)
    if weight is None or weight.ndim != 2 or token is None or not token.shape[-1]:
        return 1
    return int(weight.shape[1]) // token.shape[-1]


def _one_classifier(tensors: Tensors) -> Tensors:
    """Convert a distilled network to one classifier, which reads the class token and the distillation token.

    Its logits are the mean of the logits of the two classifiers in the file.
    """
    used = ("head.weight", "head.bias", "head_dist.weight", "head_dist.bias", "dist_token")
    if not all(name in tensors for name in used) or tensors["head.weight"].ndim != 2:
        return tensors
    weight, bias, other_weight, other_bias, token = (tensors[name] for name in used)
    if weight.shape != other_weight.shape or bias.shape != other_bias.shape:
        return tensors
    others = {name: tensor for name, tensor in tensors.items() if name not in used}
    joined = {"head.weight": torch.cat([weight, other_weight], 1) / 2, "head.bias": (bias + other_bias) / 2}
    return {**others, **joined, str(TIMM_NAMES.registers): token}


def _plain(names: ViTNames, config: ViTConfig, tensors: Tensors) -> dict[str, Any]:
    attentions = [f"stages.0.blocks.{b}.attention" for b in range(config.depth[-1])]
    scaled = any(names.of(f"{attention}.scale.weight") in tensors for attention in attentions)
    return {
        "outputs": _outputs(names, config, tensors),
        "relative": None,
        "norm_pooled": False,
        "layer_scale": (config.layer_scale or LAYER_SCALE) if scaled else None,
        "qkv_bias": any(names.of(f"{attention}.qkv.bias") in tensors for attention in attentions),
        "flat_qkv_bias": False,
        "norm_eps": 1e-6,
    }


def _outputs(names: ViTNames, config: ViTConfig, tensors: Tensors) -> int:
    weight = tensors.get(f"{names.ends['head.classifier']}.weight")
    return config.outputs if weight is None or weight.ndim != 2 or not len(weight) else len(weight)


SOURCES: Mapping[str, ViTSource] = {
    "autoformer": ViTSource(
        AUTOFORMER_NAMES, ("model",), _autoformer, interleaved=frozenset({"weight"}), wider=True
    ),
    "prenas": ViTSource(
        AUTOFORMER_NAMES, ("model",), _prenas, interleaved=frozenset({"weight", "bias"}), wider=True
    ),
    "torchvision": ViTSource(
        TORCHVISION_NAMES,
        ("model", ""),
        _torchvision,
        resample=as_torchvision,
        spellings={r"\.mlp\.linear_1\.": ".mlp.0.", r"\.mlp\.linear_2\.": ".mlp.3."},
    ),
    "timm": ViTSource(
        TIMM_NAMES,
        ("state_dict_ema", "model_ema", "state_dict", "model", ""),
        _timm,
        resample=as_timm,
        spellings={r"\.gamma_([12])$": r".ls\1.gamma"},
        rewrite=_one_classifier,
        unused=r"^mask_token$|^pre_logits\.",
    ),
}
"""The sources by name."""
