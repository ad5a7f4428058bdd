"""Sorting of inner channels by importance."""

import pytest
import torch
from torch import Tensor, nn

import search_spaces
from nas.importing.torch_model.convert import convert
from nas.importing.torch_model.plan import Options
from nas.torch_backend.channel_order import (
    descending,
    inner_channels,
    largest_block,
    reader_weight,
    sort_channels,
)
from nas.torch_backend.supernet import Supernet
from search_spaces import Arch, Space

MBCONV = """\
name: small
outputs: 3
channels: 3
resolutions: [16]
stem: {width: [8]}
kernel_transform: true
stages:
  - {width: [8], depth: [1], se: true}
  - {width: [8, 16], depth: [1, 2], kernel: [3, 5, 7], expand: [2, 3, 4], stride: 2, se: true}
  - {width: [24], depth: [2], kernel: [3, 5], expand: [3, 6], per: stage, shortcut: projection}
head: {width: [16], pool_width: 24}
"""
RESNET = """\
family: resnet
name: small
outputs: 3
channels: 3
resolutions: [32]
stem: {width: [8, 16], mid: [8], depth: [2, 3]}
stages:
  - {width: [16, 32], depth: [1, 2], expand: [0.25, 0.5, 1.0], stride: 1}
  - {width: [32], depth: [2], expand: [0.5, 1.0], stride: 2}
"""


def random_supernet(text: str) -> Supernet:
    """A float64 supernet with random tensors, so that no two channels are equal."""
    supernet = Supernet(search_spaces.parse(text)).double().eval()
    generator = torch.Generator().manual_seed(0)
    for name, tensor in supernet.state_dict().items():
        noise = torch.rand(tensor.shape, generator=generator, dtype=torch.float64)
        tensor.copy_(noise + 0.5 if name.endswith(("running_var", "norm.weight")) else noise - 0.5)
    return supernet


def logits(supernet: Supernet, arch: Arch) -> Tensor:
    size = supernet.space.image_size(arch)
    x = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        return supernet(x, arch)  # type: ignore[no-any-return]


def with_expand(space: Space, expand: float) -> Arch:
    """The largest subnet, with this expand ratio in all blocks that offer it."""
    choices = space.choices.values()
    offered = [choice.name for choice in choices if choice.kind == "expand" and expand in choice.options]
    return space.largest | dict.fromkeys(offered, expand)


def equal(a: Tensor, b: Tensor) -> bool:
    return float((a - b).abs().max()) <= 1e-10 * float(b.abs().max())  # rounding of float64 sums


@pytest.mark.parametrize(("text", "smaller"), [(MBCONV, 3), (RESNET, 0.5)], ids=["mbconv", "resnet"])
def test_outputs_of_the_largest_subnet_do_not_change(text: str, smaller: float) -> None:
    supernet = random_supernet(text)
    archs = supernet.space.largest, with_expand(supernet.space, smaller)
    before = [logits(supernet, arch) for arch in archs]
    sort_channels(supernet)
    assert equal(logits(supernet, archs[0]), before[0])
    assert not equal(logits(supernet, archs[1]), before[1])  # it uses other channels now


def test_outputs_of_smaller_kernels_and_depths_do_not_change() -> None:
    supernet = random_supernet(MBCONV)
    archs = [
        supernet.space.arch(supernet.space.largest | changed)
        for changed in ({"stages.1.blocks.0.kernel": 5, "stages.1.blocks.1.kernel": 3}, {"stages.1.depth": 1})
    ]
    before = [logits(supernet, arch) for arch in archs]
    sort_channels(supernet)
    assert all(equal(logits(supernet, arch), b) for arch, b in zip(archs, before, strict=True))


@pytest.mark.parametrize(
    ("text", "readers"),
    [(MBCONV, ["project", "se.expand"]), (RESNET, ["conv2", "conv3"])],
    ids=["mbconv", "resnet"],
)
def test_norms_of_the_weights_that_read_channels_are_descending(text: str, readers: list[str]) -> None:
    supernet = random_supernet(text)
    sort_channels(supernet)
    for slot in supernet.space.slots:
        for layer in largest_block(supernet.space, slot).nodes:
            # the first stage has no expansion: its inner channels are those of its input
            if layer.name in readers and (slot.name, layer.name) != ("stages.0.blocks.0", "project"):
                norms = reader_weight(supernet, layer).abs().sum((0, 2, 3))
                assert (norms.diff() <= 0).all()
                assert (norms.diff() < 0).any()


@pytest.mark.parametrize(
    ("text", "trained", "reader"), [(MBCONV, 3, "project"), (RESNET, 0.5, "conv3")], ids=["mbconv", "resnet"]
)
def test_channels_of_trained_ratios_do_not_change(text: str, trained: float, reader: str) -> None:
    supernet = random_supernet(text)
    arch = with_expand(supernet.space, trained)
    before = logits(supernet, arch)
    sort_channels(supernet, [trained])
    assert equal(logits(supernet, arch), before)
    for slot in supernet.space.slots:
        for layer in largest_block(supernet.space, slot, trained).nodes:
            if layer.name == reader and slot.name != "stages.0.blocks.0":
                norms = reader_weight(supernet, layer).abs().sum((0, 2, 3))
                assert (norms[: layer.specs[0].channels].diff() <= 0).all()
                assert (norms[layer.specs[0].channels :].diff() <= 0).all()


def test_ratio_without_inner_channels_is_an_error() -> None:
    supernet = random_supernet(MBCONV.replace("expand: [2, 3, 4]", "expand: [1, 3, 4]"))
    with pytest.raises(ValueError, match=r"got 1, at which stages\.\d\.blocks\.\d has none"):
        sort_channels(supernet, [1])


def test_grouped_convolutions_are_refused() -> None:
    network = nn.Sequential(
        nn.Conv2d(1, 8, 1),
        nn.Conv2d(8, 8, 3, padding=1, groups=2),
        nn.Conv2d(8, 8, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 3),
    )
    options = Options(divisor=2)
    supernet = convert(network, [6], options, channels=1, name="grouped", origin="test").supernet
    with pytest.raises(ValueError, match="'grouped' has convolutions with groups of several channels"):
        sort_channels(supernet)


def test_groups_of_an_mbconv_block() -> None:
    space = search_spaces.parse(MBCONV)
    slots = {slot.name: slot for slot in space.slots}
    groups = list(inner_channels(largest_block(space, slots["stages.1.blocks.0"])))
    names = [([x.name for x in group.writers], [x.name for x in group.readers]) for group in groups]
    assert names == [
        (["expand", "expand.norm", "depthwise", "depthwise.norm", "se.expand"], ["se.reduce", "project"]),
        (["se.reduce"], ["se.expand"]),
    ]
    # without an expansion, the depthwise convolution reads the input of the block
    groups = list(inner_channels(largest_block(space, slots["stages.0.blocks.0"])))
    assert [[x.name for x in group.writers] for group in groups] == [["se.reduce"]]


def test_descending_sorts_separately_between_boundaries() -> None:
    importance = torch.tensor([1.0, 3.0, 2.0, 9.0, 2.0, 5.0])
    assert descending(importance).tolist() == [3, 5, 1, 2, 4, 0]  # the sort is stable
    assert descending(importance, [3]).tolist() == [1, 2, 0, 3, 5, 4]
    assert descending(importance, [3, 6]).tolist() == [1, 2, 0, 3, 5, 4]
