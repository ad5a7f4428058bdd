"""Checkpoints in the published formats with random weights, and the computations of the published code.

Names, shapes and forward passes are written from the formats' tables, not from the toolkit's spaces, so that
the tests compare two independent readings.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

State = dict[str, Tensor]

# per stage: (inner, SE hidden, output) channels of its first and of its other blocks; None: no SE
OFA_CHANNELS: dict[str, list[list[tuple[int, int | None, int]]]] = {
    "ofa-mbv3-w1.0": [
        [(96, None, 24), (144, None, 24)],
        [(144, 40, 40), (240, 64, 40)],
        [(240, None, 80), (480, None, 80)],
        [(480, 120, 112), (672, 168, 112)],
        [(672, 168, 160), (960, 240, 160)],
    ],
    "ofa-mbv3-w1.2": [
        [(144, None, 32), (192, None, 32)],
        [(192, 48, 48), (288, 72, 48)],
        [(288, None, 96), (576, None, 96)],
        [(576, 144, 136), (816, 208, 136)],
        [(816, 208, 192), (1152, 288, 192)],
    ],
    "ofa-proxyless-w1.3": [
        [(144, None, 32), (192, None, 32)],
        [(192, None, 56), (336, None, 56)],
        [(336, None, 104), (624, None, 104)],
        [(624, None, 128), (768, None, 128)],
        [(768, None, 248), (1488, None, 248)],
        [(1488, None, 416)],
    ],
}
OFA_FIRST = {  # first convolution, static block
    "ofa-mbv3-w1.0": (16, 16),
    "ofa-mbv3-w1.2": (24, 24),
    "ofa-proxyless-w1.3": (40, 24),
}
OFA_ACTIVATIONS = {  # first convolution, static block, then stages; the head's is the last stage's
    "ofa-mbv3-w1.0": ["h_swish", "relu", "relu", "relu", "h_swish", "h_swish", "h_swish"],
    "ofa-mbv3-w1.2": ["h_swish", "relu", "relu", "relu", "h_swish", "h_swish", "h_swish"],
    "ofa-proxyless-w1.3": ["relu6"] * 8,
}
OFA_STRIDES = [2, 2, 2, 1, 2, 1]
HEADS = {"ofa-mbv3-w1.0": (960, 1280), "ofa-mbv3-w1.2": (1152, 1536), "ofa-proxyless-w1.3": (1664,)}

# AttentiveNAS: (blocks, inner of the first, of the others, SE hidden of both or None, output)
ATTENTIVENAS_STAGES = [
    (2, 24, 24, None, 24),
    (5, 144, 192, None, 32),
    (6, 192, 240, (48, 64), 40),
    (6, 240, 432, None, 72),
    (8, 432, 768, (112, 192), 128),
    (8, 768, 1296, (192, 328), 216),
    (2, 1296, 1344, (328, 336), 224),
]
ATTENTIVENAS_STRIDES = [1, 2, 2, 2, 1, 2, 1]

FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "relu6": F.relu6,
    "h_swish": lambda x: x * F.relu6(x + 3) / 6,
    "swish": lambda x: x * torch.sigmoid(x),
}


def save(path: Path, state: Mapping[str, Any]) -> Path:
    """Save a state in the format of the published tools."""
    torch.save({"state_dict": state}, path)
    return path


def images(n: int, size: int) -> Tensor:
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(size))


def agree(ours: Tensor, theirs: Tensor) -> None:
    """Check that logits are equal up to rounding."""
    assert theirs.std() > 1e-3  # the comparison would be trivial for constant outputs
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4 * float(theirs.abs().max()))


class _Writer:
    """Collects random tensors."""

    def __init__(self, seed: int, gain: float = 1.0) -> None:
        self.state: State = {}
        self.gain = gain
        self.generator = torch.Generator().manual_seed(seed)

    def conv(self, name: str, *shape: int) -> None:
        fan_in = torch.Size(shape[1:]).numel()
        self.state[name] = torch.randn(shape, generator=self.generator) * (self.gain / fan_in) ** 0.5

    def vector(self, name: str, n: int, low: float, high: float) -> None:
        self.state[name] = torch.rand(n, generator=self.generator) * (high - low) + low

    def norm(self, name: str, n: int) -> None:
        self.vector(f"{name}.weight", n, 0.7, 1.3)
        self.vector(f"{name}.bias", n, -0.3, 0.3)
        self.vector(f"{name}.running_mean", n, -0.3, 0.3)
        self.vector(f"{name}.running_var", n, 0.7, 1.3)
        self.state[f"{name}.num_batches_tracked"] = torch.tensor(7)

    def dynamic(self, name: str, *shape: int) -> None:
        self.conv(f"{name}.conv.conv.weight", *shape)
        self.norm(f"{name}.bn.bn", shape[0])

    def static(self, name: str, *shape: int) -> None:
        self.conv(f"{name}.conv.weight", *shape)
        self.norm(f"{name}.bn", shape[0])

    def squeeze_excite(self, name: str, mid: int, hidden: int) -> None:
        self.conv(f"{name}.reduce.weight", hidden, mid, 1, 1)
        self.vector(f"{name}.reduce.bias", hidden, -0.3, 0.3)
        self.conv(f"{name}.expand.weight", mid, hidden, 1, 1)
        self.vector(f"{name}.expand.bias", mid, -0.3, 0.3)


def ofa_state(space: str, seed: int = 0, gain: float = 1.0) -> State:
    """An OFA supernet of MBConv blocks with the new names; `gain` scales the variance of its weights."""
    return dict(_ofa_state(space, seed, gain))


@cache
def _ofa_state(space: str, seed: int, gain: float) -> State:
    w = _Writer(seed, gain)
    first, c = OFA_FIRST[space]
    w.static("first_conv", first, 3, 3, 3)
    w.static("blocks.0.conv.depth_conv", first, 1, 3, 3)
    w.static("blocks.0.conv.point_linear", c, first, 1, 1)
    i = 1
    for channels in OFA_CHANNELS[space]:
        for mid, hidden, width in [channels[0], *channels[1:] * 3]:
            block = f"blocks.{i}.conv"
            w.dynamic(f"{block}.inverted_bottleneck", mid, c, 1, 1)
            w.dynamic(f"{block}.depth_conv", mid, 1, 7, 7)
            for name, n in (("7to5", 25), ("5to3", 9)):
                noise = torch.randn(n, n, generator=w.generator) * 0.2
                w.state[f"{block}.depth_conv.conv.{name}_matrix"] = torch.eye(n) + noise
            if hidden:
                w.squeeze_excite(f"{block}.depth_conv.se.fc", mid, hidden)
            w.dynamic(f"{block}.point_linear", width, mid, 1, 1)
            c, i = width, i + 1
    pooled, *mixed = HEADS[space]
    w.static("final_expand_layer" if mixed else "feature_mix_layer", pooled, c, 1, 1)
    for width in mixed:
        w.conv("feature_mix_layer.conv.weight", width, pooled, 1, 1)
    w.conv("classifier.linear.weight", 1000, HEADS[space][-1])
    w.vector("classifier.linear.bias", 1000, -0.01, 0.01)
    return w.state


def attentivenas_state(seed: int = 0, *, trained_statistics: bool = True) -> State:
    """An AttentiveNAS supernet as saved by distributed training, including its unused tensors."""
    w = _Writer(seed)
    w.dynamic("first_conv", 24, 3, 3, 3)
    c, i = 24, 0
    for blocks, first, other, hidden, width in ATTENTIVENAS_STAGES:
        for b in range(blocks):
            block, mid = f"blocks.{i}.mobile_inverted_conv", other if b else first
            if i > 1:
                w.dynamic(f"{block}.inverted_bottleneck", mid, c, 1, 1)
            w.dynamic(f"{block}.depth_conv", mid, 1, 5, 5)
            if hidden:
                w.squeeze_excite(f"{block}.depth_conv.se.fc", mid, hidden[b > 0])
            w.dynamic(f"{block}.point_linear", width, mid, 1, 1)
            w.conv(f"blocks.{i}.shortcut.conv.conv.weight", width, c, 1, 1)
            c, i = width, i + 1
    w.dynamic("last_conv.final_expand_layer", 1344, 224, 1, 1)
    w.conv("last_conv.feature_mix_layer.conv.conv.weight", 1984, 1344, 1, 1)
    w.conv("classifier.linear.linear.weight", 1000, 1984)
    w.vector("classifier.linear.linear.bias", 1000, -0.01, 0.01)
    for name, tensor in list(w.state.items()):
        if not trained_statistics and name.endswith("running_mean"):
            tensor.zero_()
        if not trained_statistics and name.endswith("running_var"):
            tensor.fill_(1)
    return {f"module.{name}": tensor for name, tensor in w.state.items()}


def _norm(state: State, name: str, x: Tensor, eps: float) -> Tensor:
    mean, var, weight, bias = (
        state[f"{name}.{part}"][: x.shape[1]] for part in ("running_mean", "running_var", "weight", "bias")
    )
    return F.batch_norm(x, mean, var, weight, bias, eps=eps)


def _pointwise(weight: Tensor, x: Tensor, width: int, bias: Tensor | None = None) -> Tensor:
    return F.conv2d(x, weight[:width, : x.shape[1]], bias)


def _pool(x: Tensor) -> Tensor:
    """Global average pooling with the order of summation of the published code."""
    return x.mean(3, keepdim=True).mean(2, keepdim=True)


def _squeeze_excite(state: State, name: str, x: Tensor) -> Tensor:
    mid = x.shape[1]
    hidden = divisible(mid // 4)
    inner = _pointwise(
        state[f"{name}.reduce.weight"], _pool(x), hidden, state[f"{name}.reduce.bias"][:hidden]
    )
    gate = _pointwise(state[f"{name}.expand.weight"], F.relu(inner), mid, state[f"{name}.expand.bias"][:mid])
    return x * (F.relu6(gate + 3) / 6)


def divisible(channels: float) -> int:
    """The multiple of 8 nearest to `channels`, or the next larger one if that is below 90 % of `channels`."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels else nearest


def ofa_forward(space: str, state: State, arch: Mapping[str, Sequence[int]], x: Tensor) -> Tensor:
    """Logits of a subnet of an OFA supernet in eval mode."""
    eps = 1e-3 if "proxyless" in space else 1e-5
    first, static, *acts = (FUNCTIONS[name] for name in OFA_ACTIVATIONS[space])
    x = F.conv2d(x, state["first_conv.conv.weight"], stride=2, padding=1)
    entry = x = first(_norm(state, "first_conv.bn", x, eps))
    block = "blocks.0.conv"
    x = F.conv2d(x, state[f"{block}.depth_conv.conv.weight"], padding=1, groups=x.shape[1])
    x = static(_norm(state, f"{block}.depth_conv.bn", x, eps))
    x = _pointwise(state[f"{block}.point_linear.conv.weight"], x, OFA_FIRST[space][1])
    x = _norm(state, f"{block}.point_linear.bn", x, eps)
    x = x + entry if x.shape == entry.shape else x
    start = 1
    for s, channels in enumerate(OFA_CHANNELS[space]):
        blocks, width = 4 if len(channels) > 1 else 1, channels[0][2]
        for i in range(start, start + arch["d"][s]):
            stride = OFA_STRIDES[s] if i == start else 1
            kernel, mid = arch["ks"][i - 1], divisible(round(x.shape[1] * arch["e"][i - 1]))
            entry, block = x, f"blocks.{i}.conv"
            x = _pointwise(state[f"{block}.inverted_bottleneck.conv.conv.weight"], x, mid)
            x = acts[s](_norm(state, f"{block}.inverted_bottleneck.bn.bn", x, eps))
            weight = _ofa_kernel(state, f"{block}.depth_conv.conv", mid, kernel)
            x = F.conv2d(x, weight, stride=stride, padding=kernel // 2, groups=mid)
            x = acts[s](_norm(state, f"{block}.depth_conv.bn.bn", x, eps))
            if channels[0][1]:
                x = _squeeze_excite(state, f"{block}.depth_conv.se.fc", x)
            x = _pointwise(state[f"{block}.point_linear.conv.conv.weight"], x, width)
            x = _norm(state, f"{block}.point_linear.bn.bn", x, eps)
            x = x + entry if x.shape == entry.shape else x
        start += blocks
    pooled, *mixed = HEADS[space]
    last = "final_expand_layer" if mixed else "feature_mix_layer"
    x = _norm(state, f"{last}.bn", _pointwise(state[f"{last}.conv.weight"], x, pooled), eps)
    x = _pool(acts[len(OFA_CHANNELS[space]) - 1](x))
    for width in mixed:
        x = FUNCTIONS["h_swish"](_pointwise(state["feature_mix_layer.conv.weight"], x, width))
    return x.flatten(1) @ state["classifier.linear.weight"].T + state["classifier.linear.bias"]


def _ofa_kernel(state: State, name: str, mid: int, kernel: int) -> Tensor:
    weight = state[f"{name}.conv.weight"][:mid]
    for large, small in ((7, 5), (5, 3)):
        if kernel <= small:
            centre = weight[:, :, 1 : large - 1, 1 : large - 1].reshape(mid, -1)
            weight = (centre @ state[f"{name}.{large}to{small}_matrix"].T).reshape(mid, 1, small, small)
    return weight


def attentivenas_forward(state: State, arch: Mapping[str, Any], x: Tensor) -> Tensor:
    """Logits of a subnet of an AttentiveNAS supernet with its running statistics."""
    state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    swish = FUNCTIONS["swish"]
    if x.shape[-1] != arch["resolution"]:
        x = F.interpolate(x, size=arch["resolution"], mode="bicubic")
    stem, *widths, head = arch["width"]
    x = F.conv2d(x, state["first_conv.conv.conv.weight"][:stem], stride=2, padding=1)
    x = swish(_norm(state, "first_conv.bn.bn", x, 1e-5))
    start = 0
    for s, (blocks, *_, hidden, _) in enumerate(ATTENTIVENAS_STAGES):
        for i in range(start, start + arch["depth"][s]):
            stride = ATTENTIVENAS_STRIDES[s] if i == start else 1
            entry, kernel, block = x, arch["kernel_size"][s], f"blocks.{i}.mobile_inverted_conv"
            if s > 0:
                mid = divisible(round(x.shape[1] * arch["expand_ratio"][s]))
                x = _pointwise(state[f"{block}.inverted_bottleneck.conv.conv.weight"], x, mid)
                x = swish(_norm(state, f"{block}.inverted_bottleneck.bn.bn", x, 1e-5))
            mid, margin = x.shape[1], (5 - kernel) // 2
            centre = slice(margin, margin + kernel)
            weight = state[f"{block}.depth_conv.conv.conv.weight"][:mid, :, centre, centre]
            x = F.conv2d(x, weight, stride=stride, padding=kernel // 2, groups=mid)
            x = swish(_norm(state, f"{block}.depth_conv.bn.bn", x, 1e-5))
            if hidden:
                x = _squeeze_excite(state, f"{block}.depth_conv.se.fc", x)
            x = _pointwise(state[f"{block}.point_linear.conv.conv.weight"], x, widths[s])
            x = _norm(state, f"{block}.point_linear.bn.bn", x, 1e-5)
            if stride > 1:
                entry = F.avg_pool2d(entry, 2, padding=entry.shape[-1] % 2)
            if entry.shape[1] != widths[s]:
                entry = _pointwise(state[f"blocks.{i}.shortcut.conv.conv.weight"], entry, widths[s])
            x = x + entry
        start += blocks
    x = _pointwise(state["last_conv.final_expand_layer.conv.conv.weight"], x, 6 * widths[-1])
    x = _pool(swish(_norm(state, "last_conv.final_expand_layer.bn.bn", x, 1e-5)))
    x = swish(_pointwise(state["last_conv.feature_mix_layer.conv.conv.weight"], x, head)).flatten(1)
    return x @ state["classifier.linear.linear.weight"][:, :head].T + state["classifier.linear.linear.bias"]


RESNET_DEPTHS = [4, 4, 6, 4]
RESNET_WIDTHS = [[168, 208, 256], [336, 408, 512], [664, 816, 1024], [1328, 1640, 2048]]
RESNET_STEMS = [[24, 24, 32], [40, 48, 64]]


def resnet_state(seed: int = 0) -> State:
    """OFA's ResNet50-D supernet."""
    w = _Writer(seed)
    w.dynamic("input_stem.0", 32, 3, 3, 3)
    w.dynamic("input_stem.1.conv", 32, 32, 3, 3)
    w.dynamic("input_stem.2", 64, 32, 3, 3)
    c, i = 64, 0
    for depth, (*_, width) in zip(RESNET_DEPTHS, RESNET_WIDTHS, strict=True):
        mid = divisible(round(width * 0.35))
        for b in range(depth):
            w.dynamic(f"blocks.{i}.conv1", mid, c, 1, 1)
            w.dynamic(f"blocks.{i}.conv2", mid, mid, 3, 3)
            w.dynamic(f"blocks.{i}.conv3", width, mid, 1, 1)
            if b == 0:
                w.dynamic(f"blocks.{i}.downsample", width, c, 1, 1)
            c, i = width, i + 1
    w.conv("classifier.linear.linear.weight", 1000, 2048)
    w.vector("classifier.linear.linear.bias", 1000, -0.01, 0.01)
    return w.state


def resnet_forward(state: State, arch: Mapping[str, Sequence[Any]], x: Tensor) -> Tensor:
    """Logits of a subnet of OFA's ResNet50-D in eval mode."""

    def layer(name: str, x: Tensor, width: int, stride: int = 1) -> Tensor:
        weight = state[f"{name}.conv.conv.weight"][:width, : x.shape[1]]
        x = F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)
        return _norm(state, f"{name}.bn.bn", x, 1e-5)

    mid, width = (widths[code] for widths, code in zip(RESNET_STEMS, arch["w"], strict=False))
    x = F.relu(layer("input_stem.0", x, mid, 2))
    if arch["d"][0] == 2:
        x = x + F.relu(layer("input_stem.1.conv", x, mid))
    x = F.relu(layer("input_stem.2", x, width))
    x = F.max_pool2d(x, 3, 2, 1)
    start = 0
    for s, deepest in enumerate(RESNET_DEPTHS):
        width = RESNET_WIDTHS[s][arch["w"][s + 2]]
        for i in range(start, start + deepest - 2 + arch["d"][s + 1]):
            stride = 2 if i == start and s > 0 else 1
            shortcut, mid = x, divisible(round(width * arch["e"][i]))
            if i == start:
                shortcut = F.avg_pool2d(x, stride, stride, ceil_mode=True)
                shortcut = layer(f"blocks.{i}.downsample", shortcut, width)
            x = F.relu(layer(f"blocks.{i}.conv1", x, mid))
            x = F.relu(layer(f"blocks.{i}.conv2", x, mid, stride))
            x = F.relu(layer(f"blocks.{i}.conv3", x, width) + shortcut)
        start += deepest
    x, head = _pool(x).flatten(1), "classifier.linear.linear"
    return x @ state[f"{head}.weight"][:, : x.shape[1]].T + state[f"{head}.bias"]
