"""Names of tensors in checkpoints of vision transformers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class ViTNames:
    """Names of tensors in the checkpoints of a source.

    Positions and learned tokens are separate fields, because their shapes in a checkpoint differ from those
    in this toolkit.
    """

    ends: Mapping[str, str]
    """Modules of stem and head by the name of the layer in this toolkit."""
    block: str
    """Prefix of the tensors of a block, with `{}` for its number."""
    layers: Mapping[str, str]
    """Modules of a block by the name of the layer in this toolkit, or patterns with `{}` for the name of a
    tensor, such as `in_proj_{}`."""
    tensors: Mapping[str, str] = field(default_factory=dict)
    """Tensors of a block by name in this toolkit, for layers that are not modules in the checkpoint."""
    class_token: str = "cls_token"
    registers: str | None = None
    positions: str = "pos_embed"
    pooled_norm: str | None = None
    """Module of the last norm if it comes after the pooling."""

    @property
    def outside_blocks(self) -> list[str]:
        """Names of tensors that networks have outside of blocks."""
        return [*(f"{module}.weight" for module in self.ends.values()), self.class_token, self.positions]

    def of(self, name: str) -> str | None:
        """The name in a checkpoint of a tensor of this toolkit; None if checkpoints lack the tensor."""
        layer, _, tensor = name.rpartition(".")
        if not name.startswith("stages."):
            return f"{self.ends[layer]}.{tensor}" if layer in self.ends else None
        _, _, _, block, layer = layer.split(".", 4)
        inner = self.tensors.get(f"{layer}.{tensor}")
        if inner is None and layer in self.layers:
            module = self.layers[layer]
            inner = module.format(tensor) if "{}" in module else f"{module}.{tensor}"
        return None if inner is None else self.block.format(block) + inner


AUTOFORMER_NAMES = ViTNames(
    ends={"stem.patch": "patch_embed_super.proj", "head.norm": "norm", "head.classifier": "head"},
    block="blocks.{}.",
    layers={
        "attention.norm": "attn_layer_norm",
        "attention.qkv": "attn.qkv",
        "attention.project": "attn.proj",
        "mlp.norm": "ffn_layer_norm",
        "mlp.expand": "fc1",
        "mlp.project": "fc2",
    },
    tensors={
        f"attention.attend.{part}_{axis}": f"attn.rel_pos_embed_{part[0]}.embeddings_table_{letter}"
        for part in ("key", "value")
        for axis, letter in (("rows", "v"), ("columns", "h"))
    },
)
"""AutoFormer and PreNAS; `v` and `h` are vertical and horizontal distances."""

TORCHVISION_NAMES = ViTNames(
    ends={"stem.patch": "conv_proj", "head.norm": "encoder.ln", "head.classifier": "heads.head"},
    block="encoder.layers.encoder_layer_{}.",
    layers={
        "attention.norm": "ln_1",
        "attention.qkv": "self_attention.in_proj_{}",
        "attention.project": "self_attention.out_proj",
        "mlp.norm": "ln_2",
        "mlp.expand": "mlp.0",
        "mlp.project": "mlp.3",
    },
    class_token="class_token",
    positions="encoder.pos_embedding",
)

TIMM_NAMES = ViTNames(
    ends={"stem.patch": "patch_embed.proj", "head.norm": "norm", "head.classifier": "head"},
    block="blocks.{}.",
    layers={
        "attention.norm": "norm1",
        "attention.qkv": "attn.qkv",
        "attention.project": "attn.proj",
        "mlp.norm": "norm2",
        "mlp.expand": "mlp.fc1",
        "mlp.project": "mlp.fc2",
    },
    tensors={"attention.scale.weight": "ls1.gamma", "mlp.scale.weight": "ls2.gamma"},
    registers="reg_token",
    pooled_norm="fc_norm",
)
