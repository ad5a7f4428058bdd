"""Vision transformers of other tools in plain torch: random weights by name, and the forward pass."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

State = dict[str, Tensor]
Arch = Mapping[str, Any]

CHANNELS, PATCH, SIDE, CLASSES = 3, 2, 4, 5
"""Images of 8 x 8 pixels in 4 x 4 patches."""
HEAD_DIM, DEPTH = 4, 2

SUPERNET = f"""\
family: vit
name: small
outputs: {CLASSES}
channels: {CHANNELS}
resolutions: [{PATCH * SIDE}]
patch: {PATCH}
width: [8, 12]
depth: [1, {DEPTH}]
heads: [2, 3, 4]
head_dim: {HEAD_DIM}
mlp_ratio: [3, 3.5, 4]
relative: {{kind: tables, distance: 2}}
pool: mean
"""
"""A space whose published supernet is 16 wide, so that all subnets are narrower."""


PRETRAINED = f"""\
family: vit
name: small
outputs: {CLASSES}
channels: {CHANNELS}
resolutions: [{PATCH * SIDE}]
patch: {PATCH}
width: [16]
depth: [1, {DEPTH}]
heads: [2, 4]
head_dim: {HEAD_DIM}
mlp: [8, 24, 32]
"""
"""A space for networks of torchvision and timm."""


def write_space(folder: Path, text: str) -> str:
    path = folder / "space.yaml"
    path.write_text(text)
    return str(path)


def random_state(shapes: Mapping[str, Sequence[int]], seed: int = 0) -> State:
    """Random weights with a norm that lets every part of the network change the logits."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in shapes.items():
        state[name] = 0.4 * torch.randn(*shape, generator=generator)
        if name.endswith("weight") and len(shape) == 1:
            state[name] += 1
    return state


def autoformer_state(seed: int = 0, *, width: int = 16, distance: int = 2, side: int = SIDE) -> State:
    """Weights of a supernet of AutoFormer or PreNAS."""
    rows = 2 * distance + 2
    shapes: dict[str, Sequence[int]] = {
        "cls_token": (1, 1, width),
        "pos_embed": (1, side**2 + 1, width),
        "patch_embed_super.proj.weight": (width, CHANNELS, PATCH, PATCH),
        "patch_embed_super.proj.bias": (width,),
    }
    for i in range(DEPTH):
        block: dict[str, Sequence[int]] = {
            "attn.qkv.weight": (3 * width, width),
            "attn.qkv.bias": (3 * width,),
            "attn.proj.weight": (width, width),
            "attn.proj.bias": (width,),
            "fc1.weight": (4 * width, width),
            "fc1.bias": (4 * width,),
            "fc2.weight": (width, 4 * width),
            "fc2.bias": (width,),
        }
        for part in "kv":
            for letter in "vh":
                block[f"attn.rel_pos_embed_{part}.embeddings_table_{letter}"] = (rows, HEAD_DIM)
        for norm in ("attn_layer_norm", "ffn_layer_norm"):
            block |= {f"{norm}.weight": (width,), f"{norm}.bias": (width,)}
        shapes |= {f"blocks.{i}.{name}": shape for name, shape in block.items()}
    shapes |= {"norm.weight": (width,), "norm.bias": (width,)}
    shapes |= {"head.weight": (CLASSES, width), "head.bias": (CLASSES,)}
    return random_state(shapes, seed)


def autoformer_forward(state: State, arch: Arch, x: Tensor, *, interleaved_bias: bool) -> Tensor:
    """Logits of a subnet in the notation of AutoFormer, one image and head at a time.

    Args:
        state: the weights.
        arch: the subnet.
        x: images.
        interleaved_bias: whether the bias of queries, keys and values is sliced as the weight (PreNAS), or
            the first numbers are used as they are (AutoFormer).
    """
    return torch.stack([_autoformer_logits(state, arch, image, interleaved_bias) for image in x])


def _autoformer_logits(state: State, arch: Arch, image: Tensor, interleaved_bias: bool) -> Tensor:
    width = arch["embed_dim"][0]
    kernel = state["patch_embed_super.proj.weight"][:width].flatten(1)
    tokens = [state["cls_token"][0, 0, :width]]
    for row in range(0, image.shape[1], PATCH):
        for column in range(0, image.shape[2], PATCH):
            patch = image[:, row : row + PATCH, column : column + PATCH].flatten()
            tokens.append(kernel @ patch + state["patch_embed_super.proj.bias"][:width])
    z = torch.stack(tokens) + state["pos_embed"][0, :, :width]
    for i in range(arch["layer_num"]):
        block = {n.removeprefix(f"blocks.{i}."): t for n, t in state.items() if n.startswith(f"blocks.{i}.")}
        heads, hidden = arch["num_heads"][i], int(width * arch["mlp_ratio"][i])
        z = z + _attention(block, _norm(block, "attn_layer_norm", z), heads, interleaved_bias)
        y = F.gelu(
            _norm(block, "ffn_layer_norm", z) @ block["fc1.weight"][:hidden, :width].T
            + block["fc1.bias"][:hidden]
        )
        z = z + y @ block["fc2.weight"][:width, :hidden].T + block["fc2.bias"][:width]
    pooled = _norm(state, "norm", z)[1:].mean(0)
    return state["head.weight"][:, :width] @ pooled + state["head.bias"]


def _norm(state: State, name: str, z: Tensor) -> Tensor:
    width = z.shape[1]
    centred = z - z.mean(1, keepdim=True)
    normalized = centred / (centred.square().mean(1, keepdim=True) + 1e-5).sqrt()
    return normalized * state[f"{name}.weight"][:width] + state[f"{name}.bias"][:width]


def _attention(block: State, z: Tensor, heads: int, interleaved_bias: bool) -> Tensor:
    n, width = z.shape
    channels = heads * HEAD_DIM
    weight, bias = block["attn.qkv.weight"][: 3 * channels, :width], block["attn.qkv.bias"][: 3 * channels]
    if interleaved_bias:
        bias = torch.cat([bias[part::3] for part in range(3)])
    query, key, value = (
        z @ weight[part::3].T + bias[part * channels : (part + 1) * channels] for part in range(3)
    )
    out = torch.zeros_like(query)
    rows, columns = _distances(n, len(block["attn.rel_pos_embed_k.embeddings_table_v"]) // 2 - 1)
    for_keys = (
        block["attn.rel_pos_embed_k.embeddings_table_v"][rows]
        + block["attn.rel_pos_embed_k.embeddings_table_h"][columns]
    )
    for_values = (
        block["attn.rel_pos_embed_v.embeddings_table_v"][rows]
        + block["attn.rel_pos_embed_v.embeddings_table_h"][columns]
    )
    for head in range(heads):
        part = slice(head * HEAD_DIM, (head + 1) * HEAD_DIM)
        q, k, v = query[:, part], key[:, part], value[:, part]
        for i in range(n):
            logits = torch.stack([q[i] @ (k[j] + for_keys[i, j]) for j in range(n)])
            shares = (logits * HEAD_DIM**-0.5).softmax(0)
            out[i, part] = sum((shares[j] * (v[j] + for_values[i, j]) for j in range(n)), torch.zeros(()))
    return out @ block["attn.proj.weight"][:width, :channels].T + block["attn.proj.bias"][:width]


def _distances(n: int, distance: int) -> tuple[Tensor, Tensor]:
    """Rows of the tables for each pair of tokens; 0 for the class token."""
    side = round((n - 1) ** 0.5)
    rows, columns = torch.zeros(2, n, n, dtype=torch.long)
    for i in range(n - 1):
        for j in range(n - 1):
            down, right = j // side - i // side, j % side - i % side
            rows[i + 1, j + 1] = max(-distance, min(distance, down)) + distance + 1
            columns[i + 1, j + 1] = max(-distance, min(distance, right)) + distance + 1
    return rows, columns


def timm_state(
    seed: int = 0,
    *,
    registers: int = 0,
    layer_scale: bool = False,
    class_position: bool = True,
    pooled_norm: bool = False,
    distilled: bool = False,
    side: int = SIDE,
) -> State:
    """Weights of a `VisionTransformer` of timm."""
    width, positions = 16, side**2 + (1 + registers + distilled) * class_position
    shapes: dict[str, Sequence[int]] = {
        "cls_token": (1, 1, width),
        "pos_embed": (1, positions, width),
        "patch_embed.proj.weight": (width, CHANNELS, PATCH, PATCH),
        "patch_embed.proj.bias": (width,),
    }
    if registers:
        shapes["reg_token"] = (1, registers, width)
    for i in range(DEPTH):
        block: dict[str, Sequence[int]] = {
            "attn.qkv.weight": (3 * width, width),
            "attn.qkv.bias": (3 * width,),
            "attn.proj.weight": (width, width),
            "attn.proj.bias": (width,),
            "mlp.fc1.weight": (2 * width, width),
            "mlp.fc1.bias": (2 * width,),
            "mlp.fc2.weight": (width, 2 * width),
            "mlp.fc2.bias": (width,),
        }
        if layer_scale:
            block |= {"ls1.gamma": (width,), "ls2.gamma": (width,)}
        for norm in ("norm1", "norm2"):
            block |= {f"{norm}.weight": (width,), f"{norm}.bias": (width,)}
        shapes |= {f"blocks.{i}.{name}": shape for name, shape in block.items()}
    norm = "fc_norm" if pooled_norm else "norm"
    shapes |= {f"{norm}.weight": (width,), f"{norm}.bias": (width,)}
    shapes |= {"head.weight": (CLASSES, width), "head.bias": (CLASSES,)}
    if distilled:
        shapes |= {"head_dist.weight": (CLASSES, width), "head_dist.bias": (CLASSES,)}
        shapes["dist_token"] = (1, 1, width)
    return random_state(shapes, seed)


def timm_forward(state: State, x: Tensor) -> Tensor:
    """Logits of a `VisionTransformer` of timm, whose structure follows from its tensors."""

    def norm(name: str, z: Tensor) -> Tensor:
        return F.layer_norm(z, (16,), state[f"{name}.weight"], state[f"{name}.bias"], 1e-6)

    def linear(name: str, z: Tensor) -> Tensor:
        return F.linear(z, state[f"{name}.weight"], state[f"{name}.bias"])

    kernel, bias = state["patch_embed.proj.weight"], state["patch_embed.proj.bias"]
    z = F.conv2d(x, kernel, bias, stride=PATCH).flatten(2).transpose(1, 2)
    tokens = ("cls_token", "dist_token", "reg_token")
    first = [state[name].expand(len(x), -1, -1) for name in tokens if name in state]
    if state["pos_embed"].shape[1] == z.shape[1]:
        z = torch.cat([*first, z + state["pos_embed"]], 1)
    else:
        z = torch.cat([*first, z], 1) + state["pos_embed"]
    for i in range(DEPTH):
        block = f"blocks.{i}"
        qkv = linear(f"{block}.attn.qkv", norm(f"{block}.norm1", z)).unflatten(2, (3, -1, HEAD_DIM))
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        shares = (query @ key.transpose(2, 3) * HEAD_DIM**-0.5).softmax(3)
        y = linear(f"{block}.attn.proj", (shares @ value).transpose(1, 2).flatten(2))
        z = z + y * state.get(f"{block}.ls1.gamma", torch.ones(()))
        y = F.gelu(linear(f"{block}.mlp.fc1", norm(f"{block}.norm2", z)))
        z = z + linear(f"{block}.mlp.fc2", y) * state.get(f"{block}.ls2.gamma", torch.ones(()))
    if "fc_norm.weight" in state:
        return linear("head", norm("fc_norm", z[:, sum(t.shape[1] for t in first) :].mean(1)))
    z = norm("norm", z)
    if "head_dist.weight" in state:
        return (linear("head", z[:, 0]) + linear("head_dist", z[:, 1])) / 2
    return linear("head", z[:, 0])
