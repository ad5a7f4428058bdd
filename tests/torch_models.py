"""Small networks as users write them, for the tests of the conversion of torch models."""

from collections.abc import Callable, Mapping
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.swin_transformer import PatchMergingV2, SwinTransformer, SwinTransformerBlockV2

Model = TypeVar("Model", bound=nn.Module)


class Block(nn.Module):
    """A basic block of ResNet, with a ReLU that is used twice."""

    def __init__(self, c_in: int, c_out: int, stride: int, mid: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, mid, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(mid)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(mid, c_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.downsample: nn.Module | None = None
        if c_in != c_out or stride > 1:
            self.downsample = nn.Sequential(
                nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out)
            )

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        out += x if self.downsample is None else self.downsample(x)
        y: Tensor = self.relu(out)
        return y


class ResNet(nn.Module):
    """Two stages of three and two blocks with `mids` inner channels, and a classifier."""

    def __init__(self, mids: tuple[int, ...] = (16, 16, 16, 32, 32), outputs: int = 5) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 1, 1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2))
        n = len(mids) - 2
        self.layer1 = nn.Sequential(*(Block(16, 16, 1, mid) for mid in mids[:n]))
        self.layer2 = nn.Sequential(
            Block(16, 32, 2, mids[n]), *(Block(32, 32, 1, mid) for mid in mids[n + 1 :])
        )
        self.fc = nn.Linear(32, outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer2(self.layer1(self.stem(x)))
        logits: Tensor = self.fc(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))
        return logits


class Digits(nn.Module):
    """A ResNet for the digits of scikit-learn."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 8, 3, 2, 1), nn.ReLU())
        self.blocks = nn.Sequential(Block(8, 8, 1, 8), Block(8, 8, 1, 8))
        self.classifier = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.blocks(self.stem(x)).mean((2, 3)))
        return logits


class Excitation(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Conv2d(channels, 8, 1), nn.Conv2d(8, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.fc2(F.relu(self.fc1(x.mean((2, 3), keepdim=True))))
        return torch.sigmoid(gate) * x


class Inverted(nn.Module):
    """An inverted residual with squeeze-and-excitation; without a shortcut if the shape changes."""

    def __init__(self, c_in: int, c_out: int, stride: int, groups: int | None = None) -> None:
        super().__init__()
        mid = 4 * c_in
        self.conv = nn.Sequential(
            nn.Sequential(nn.Conv2d(c_in, mid, 1, bias=False), nn.BatchNorm2d(mid), nn.ReLU6()),
            nn.Conv2d(mid, mid, 5, stride, 2, groups=groups or mid, bias=False),
            nn.BatchNorm2d(mid, eps=1e-3),
            nn.Hardswish(),
            Excitation(mid),
            nn.Conv2d(mid, c_out, 1, bias=False),
            nn.BatchNorm2d(c_out),
        )
        self.use_shortcut = c_in == c_out and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        return x + F.dropout(self.conv(x), 0.1, self.training) if self.use_shortcut else self.conv(x)


def mobile() -> nn.Module:
    """Inverted residuals; one has a grouped convolution."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1),
        nn.SiLU(),
        Inverted(8, 8, 1),
        Inverted(8, 8, 1, groups=4),
        Inverted(8, 16, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 32),
        nn.Hardswish(),
        nn.Dropout(0.2),
        nn.Linear(32, 4),
    )


class Chain(nn.Module):
    """A chain of layers in one module whose feature maps are flattened."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 16, 3, 1, 1), nn.Conv2d(16, 24, (3, 1), padding=(1, 0), dilation=(1, 2))
        self.pool = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.c, self.d = nn.Linear(24 * 2 * 2, 32), nn.Linear(32, 4, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(F.leaky_relu(self.a(x), 0.2))
        x = F.adaptive_avg_pool2d(F.avg_pool2d(F.elu(self.b(x)), 3, 1, 1), (2, 2))
        logits: Tensor = self.d(torch.tanh(self.c(x.view(x.size(0), -1))))
        return logits


class Branches(nn.Module):
    """A dense layer, a fire module, and a unit of ShuffleNet."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.norm, self.grow = (
            nn.BatchNorm2d(8),
            nn.Sequential(nn.Conv2d(8, 16, 1), nn.ReLU(), nn.Conv2d(16, 8, 3, 1, 1)),
        )
        self.squeeze, self.left, self.right = (
            nn.Conv2d(16, 16, 1),
            nn.Conv2d(16, 8, 1),
            nn.Conv2d(16, 8, 3, 1, 1),
        )
        self.branch = nn.Sequential(nn.Conv2d(8, 16, 1), nn.ReLU(), nn.Conv2d(16, 8, 1))
        self.last = nn.Conv2d(16, 6, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = torch.cat([x, self.grow(F.relu(self.norm(x)))], 1)
        x = F.relu(self.squeeze(x))
        x = torch.cat([self.left(x), self.right(x)], dim=1)
        first, second = x.chunk(2, dim=1)
        x = torch.cat((first, self.branch(second)), dim=1)
        n, c, height, width = x.shape
        x = x.view(n, 2, c // 2, height, width).transpose(1, 2).contiguous().view(n, c, height, width)
        y: Tensor = self.last(x)
        return y.mean([2, 3])


class NextBlock(nn.Module):
    """A block of ConvNeXt."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.up, self.down = nn.Linear(channels, 4 * channels), nn.Linear(4 * channels, channels)
        self.gamma = nn.Parameter(torch.ones(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.down(F.gelu(self.up(y))).permute(0, 3, 1, 2)
        z: Tensor = x + self.gamma * y
        return z


def convnext() -> nn.Module:
    """A small ConvNeXt."""
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(1), nn.LayerNorm(16), nn.Linear(16, 3))
    return nn.Sequential(nn.Conv2d(3, 16, 4, 4), NextBlock(16), NextBlock(16), *head)


class Encoder(nn.Module):
    """A block of a vision transformer."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(16), nn.LayerNorm(16, eps=1e-6)
        self.attention = nn.MultiheadAttention(16, 2, dropout=0.1, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Dropout(0.1), nn.Linear(32, 16))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x)
        x = self.attention(y, y, y, need_weights=False)[0] + x
        z: Tensor = x + self.mlp(self.norm2(x))
        return z


class Transformer(nn.Module):
    """A vision transformer for images of 16 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 4, 4)
        self.token, self.positions = nn.Parameter(torch.ones(1, 1, 16)), nn.Parameter(torch.ones(1, 17, 16))
        self.blocks = nn.Sequential(Encoder(), Encoder())
        self.head = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x)
        n, c, height, width = x.shape
        x = x.reshape(n, c, height * width).permute(0, 2, 1)
        x = torch.cat([self.token.expand(n, -1, -1), x], dim=1) + self.positions
        logits: Tensor = self.head(self.blocks(x)[:, 0])
        return logits


def swin() -> nn.Module:
    """A small Swin transformer with windows of 2 x 2 tokens, for images of 16 pixels."""
    model: nn.Module = SwinTransformer([4, 4], 16, [2, 2], [2, 2], [2, 2], mlp_ratio=2.0, num_classes=3)
    return model


class Gate(nn.Module):
    """Squeeze-and-excitation with linear layers and a batch norm of vectors."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Sequential(
            nn.Linear(channels, 8), nn.BatchNorm1d(8), nn.PReLU(), nn.Linear(8, channels), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        n, c, _, _ = x.size()
        y = self.fc(self.pool(x).view(n, c)).view(n, c, 1, 1)
        gated: Tensor = x * y.expand_as(x)
        return gated


class DropPath(nn.Module):
    """Skips the branch of some images in training."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        return x * x.new_empty((x.shape[0],) + (1,) * (x.ndim - 1)).bernoulli_(0.9)


class Odd(nn.Module):
    """Arithmetic with constants, less common activations and norms, and code that depends on sizes."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.ones(1, 3, 1, 1))
        self.register_buffer("std", torch.ones(3, 1, 1))
        self.stem, self.norm = nn.Conv2d(3, 16, 3, 2), nn.GroupNorm(4, 16, eps=1e-3)
        self.slope, self.wide = nn.PReLU(16), nn.Conv2d(16, 32, 1)
        self.inner, self.narrow = nn.GroupNorm(4, 32), nn.Conv2d(32, 16, 3, padding=1)
        self.shift, self.gate, self.mish = nn.Parameter(torch.ones(16, 1, 1)), Gate(16), nn.Mish()
        self.drop, self.last = DropPath(), nn.Conv2d(16, 16, 1)
        self.pool, self.fc = nn.AdaptiveMaxPool2d(1), nn.Linear(32, 3)

    def forward(self, x: Tensor, scale: float | None = None) -> Tensor:
        assert x.shape[1] == 3, "images must have three channels"
        x = (x - self.mean) / self.std
        x = F.pad(x, (0, 1, 0, 1)) if x.shape[-1] % 2 == 0 else x
        x = self.slope(self.norm(self.stem(x)))
        if scale is not None:
            x = x * scale
        y = self.narrow(F.gelu(self.inner(self.wide(x)), approximate="tanh")) + self.shift
        x = x + self.drop(self.gate(y))
        x = x * F.relu6(x + 3) / 6 - self.mish(1 - 0.5 * self.last(x))
        x = torch.cat([x.mean(3).mean(2), torch.flatten(self.pool(x), 1)], dim=1)
        logits: Tensor = self.fc(x)
        return logits


class Head(nn.Module):
    """Attention as functions; queries, keys and values come from one layer or from three."""

    def __init__(self, fused: bool) -> None:
        super().__init__()
        self.norm, self.out = nn.LayerNorm(16), nn.Linear(16, 16)
        self.inputs = nn.ModuleList([nn.Linear(16, 48)] if fused else [nn.Linear(16, 16) for _ in range(3)])

    def forward(self, x: Tensor) -> Tensor:
        n, tokens, channels = x.shape
        y = self.norm(x)
        if len(self.inputs) == 1:
            parts = self.inputs[0](y).reshape(n, tokens, 3, 2, channels // 2).permute(2, 0, 3, 1, 4).unbind(0)
        else:
            parts = [layer(y).view(n, tokens, 2, channels // 2).transpose(1, 2) for layer in self.inputs]
        query, key, value = parts
        dropout = 0.1 if self.training else 0.0
        mixed = F.scaled_dot_product_attention(query, key, value, dropout_p=dropout)
        z: Tensor = x + self.out(mixed.transpose(1, 2).reshape(n, tokens, channels))
        return z


class Functions(nn.Module):
    """A vision transformer for images of 16 pixels whose head reads the mean of the patches."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.blocks = nn.Conv2d(3, 16, 4, 4), nn.Sequential(Head(True), Head(False))
        self.token, self.grid = nn.Parameter(torch.ones(1, 1, 16)), nn.Parameter(torch.ones(1, 17, 16))
        self.mlp, self.head = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16)), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = self.blocks(torch.cat([self.token.expand(len(x), -1, -1), x], dim=1) + self.grid)
        x = x + self.mlp(x)
        logits: Tensor = self.head(x[:, 1:].mean(dim=1))
        return logits


def swin_v2() -> nn.Module:
    """A small Swin V2."""
    parts = {"block": SwinTransformerBlockV2, "downsample_layer": PatchMergingV2}
    model: nn.Module = SwinTransformer(
        [4, 4], 16, [2, 2], [2, 2], [2, 2], mlp_ratio=2.0, num_classes=3, **parts
    )
    return model


MODELS: Mapping[str, Callable[[], nn.Module]] = {
    "resnet": ResNet,
    "mobile": mobile,
    "chain": Chain,
    "branches": Branches,
    "convnext": convnext,
    "transformer": Transformer,
    "swin": swin,
    "odd": Odd,
    "functions": Functions,
}


def random_model(name: str, seed: int = 0) -> nn.Module:
    """A model in eval mode; all its parameters and statistics are random."""
    return with_random_weights(MODELS[name](), seed)


def with_random_weights(model: Model, seed: int = 0) -> Model:
    """Draw all parameters and statistics of a model, so that none has a special value such as 0 or 1."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            if tensor.ndim > 1:
                tensor.normal_(0, (2 / tensor[0].numel()) ** 0.5, generator=generator)
            elif tensor.is_floating_point():
                tensor.uniform_(0.5, 1.5, generator=generator)
    return model.eval()
