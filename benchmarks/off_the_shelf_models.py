"""Published networks for small grey images, as plain torch modules with a width multiplier.

Each network is torchvision's, with two changes that make it suitable for images of 28x28 pixels: its first
convolution reads one channel, and its first two strides of 2 are 1, so that its last feature map has 4x4
pixels instead of one. `resnet` is built from torchvision's basic blocks as in He et al. 2016, section 4.2: a
3x3 convolution and three stages of two blocks, with strides 1, 2 and 2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import nn
from torchvision.models import ShuffleNetV2, mobilenet_v2, mobilenet_v3_small
from torchvision.models.resnet import BasicBlock

SHUFFLENET_REPEATS = [4, 8, 4]
SHUFFLENET_CHANNELS = (24, 116, 232, 464, 1024)
"""Channels of the stages at width 1."""
RESNET_CHANNELS = 64
"""Channels of the first stage at width 1."""


@dataclass(frozen=True)
class Family:
    """A kind of network in several widths."""

    make: Callable[[float, int], nn.Module]
    """Makes the network for a width multiplier and a number of classes."""
    widths: Sequence[float]
    """The width multipliers of the study."""

    @property
    def tuning_width(self) -> float:
        """The width at which the training is tuned."""
        return self.widths[len(self.widths) // 2]


def _mobilenet_v3_small(width: float, classes: int) -> nn.Module:
    return adapted(mobilenet_v3_small(weights=None, width_mult=width, num_classes=classes))


def _mobilenet_v2(width: float, classes: int) -> nn.Module:
    return adapted(mobilenet_v2(weights=None, width_mult=width, num_classes=classes))


def _shufflenet_v2(width: float, classes: int) -> nn.Module:
    channels = [max(8, round(width * n / 8) * 8) for n in SHUFFLENET_CHANNELS]
    return adapted(ShuffleNetV2(SHUFFLENET_REPEATS, channels, num_classes=classes))


def _resnet(width: float, classes: int) -> nn.Module:
    first = max(8, round(width * RESNET_CHANNELS / 4) * 4)
    layers: list[nn.Module] = [
        nn.Conv2d(1, first, kernel_size=3, padding=1, bias=False),
        nn.BatchNorm2d(first),
        nn.ReLU(inplace=True),
    ]
    channels = first
    for width_factor, stride in ((1, 1), (2, 2), (4, 2)):
        outputs = first * width_factor
        layers += [BasicBlock(channels, outputs, stride, _projection(channels, outputs, stride))]
        layers += [BasicBlock(outputs, outputs)]
        channels = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))


FAMILIES: Mapping[str, Family] = {
    "mobilenet_v3_small": Family(_mobilenet_v3_small, (0.25, 0.35, 0.5, 0.75, 1.0)),
    "mobilenet_v2": Family(_mobilenet_v2, (0.1, 0.2, 0.35, 0.5)),
    "shufflenet_v2": Family(_shufflenet_v2, (0.2, 0.35, 0.5, 0.75)),
    "resnet": Family(_resnet, (0.125, 0.1875, 0.25, 0.375)),
}
"""The networks of the study by name; the widths are those whose latency is in the range of small networks."""


def adapted(net: nn.Module) -> nn.Module:
    """The network with one input channel, and with strides of 1 in its first two layers of stride 2."""
    strided = [
        layer
        for layer in net.modules()
        if isinstance(layer, nn.Conv2d | nn.MaxPool2d) and layer.stride in (2, (2, 2))
    ]
    for layer in strided[:2]:
        layer.stride = (1, 1)
    name, first = next((name, m) for name, m in net.named_modules() if isinstance(m, nn.Conv2d))
    parent, _, attribute = name.rpartition(".")
    grey = nn.Conv2d(1, first.out_channels, _pair(first.kernel_size), _pair(first.stride), bias=False)
    grey.padding = first.padding
    nn.init.kaiming_normal_(grey.weight, mode="fan_out")
    setattr(net.get_submodule(parent), attribute, grey)
    return net


def _projection(inputs: int, outputs: int, stride: int) -> nn.Module | None:
    if (inputs, stride) == (outputs, 1):
        return None
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel_size=1, stride=stride, bias=False), nn.BatchNorm2d(outputs)
    )


def _pair(sizes: tuple[int, ...]) -> tuple[int, int]:
    first, second = sizes
    return first, second
