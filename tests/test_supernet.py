import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from counting import macs_with_relative_positions, torch_macs
from hypothesis import given, settings
from strategies import small_spaces
from torch import Tensor, nn

import search_spaces
from nas.torch_backend.elastic import ElasticConv2d, ElasticOperator, elastic_operators
from nas.torch_backend.static import StaticNet
from nas.torch_backend.supernet import Supernet
from search_spaces import Arch, Block, Space
from search_spaces import operators as ops
from search_spaces.building import BlockBuilder
from search_spaces.families.mbconv import MBConvSpace
from search_spaces.tensors import image


def random_supernet(space: Space, seed: int = 0) -> Supernet:
    """A supernet with random scales, shifts, biases and statistics, so that all of them affect the output."""
    supernet = Supernet(space, seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in supernet.state_dict().items():
            if ".transforms." in name:
                tensor.add_(torch.randn(tensor.shape, generator=generator), alpha=0.1)
            elif tensor.ndim == 1:
                low, high = (0.5, 1.5) if name.endswith(("norm.weight", "running_var")) else (-0.5, 0.5)
                tensor.uniform_(low, high, generator=generator)
    return supernet


def some_archs(space: Space, rng: np.random.Generator, n: int) -> Sequence[Arch]:
    return [space.smallest, space.largest, *space.decode(space.sample(rng, n))]


def images(space: Space, arch: Arch, n: int = 4) -> Tensor:
    size = space.image_size(arch)
    shape = (n, space.config.channels, size, size)
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def space(space: Space) -> Space:
    """The space with small images."""
    patch = getattr(space.config, "patch", 1)  # resolutions are multiples of it
    small: dict[str, Any] = {}
    if max(space.resolutions) > 48:
        small["resolutions"] = (33 // patch * patch, 48)
    if getattr(space.config, "input_size", None):
        small["input_size"] = 40
    return type(space)(space.config.model_copy(update=small))  # type: ignore[call-arg]


@pytest.fixture(scope="module")
def supernet(space: Space) -> Supernet:
    return random_supernet(space)


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_outputs_of_the_extracted_subnet_equal_the_supernet(
    space: Space, supernet: Supernet, rng: np.random.Generator, training: bool
) -> None:
    supernet.train(training)
    for arch in some_archs(space, rng, 6):
        x = images(space, arch)
        static = supernet.extract(arch)
        assert static.training == training
        with torch.no_grad():
            elastic, extracted = supernet(x, arch), static(x)
        assert elastic.shape == (4, space.config.outputs)
        assert elastic.std() > 1e-3  # the comparison would be trivial for constant outputs
        torch.testing.assert_close(extracted, elastic, rtol=0, atol=1e-6)


@settings(max_examples=15, deadline=None)
@given(small_spaces(), st.integers(0, 2**32), st.booleans())
def test_outputs_of_the_extracted_subnet_equal_the_supernet_in_any_space(
    space: Space, seed: int, training: bool
) -> None:
    supernet = random_supernet(space).train(training)
    for arch in some_archs(space, np.random.default_rng(seed), 2):
        x = images(space, arch)
        with torch.no_grad():
            torch.testing.assert_close(supernet.extract(arch)(x), supernet(x, arch), rtol=0, atol=1e-6)
        assert sum(p.numel() for p in supernet.extract(arch).parameters()) == space.params(arch)


def test_gradients_of_the_extracted_subnet_equal_those_of_the_slice(
    space: Space, supernet: Supernet, rng: np.random.Generator
) -> None:
    supernet.train()
    learned = {name.partition("transforms.")[0] for name in supernet.state_dict() if "transforms." in name}
    for arch in some_archs(space, rng, 2):
        x, static = images(space, arch), supernet.extract(arch)
        supernet.zero_grad()
        supernet(x, arch).square().sum().backward()
        static(x).square().sum().backward()
        slices = dict(static.named_parameters())
        rules = {
            f"{node.path}.{name}": rule
            for node in space.network(arch).nodes
            for name, rule in node.parameters.items()
        }
        for name, parameter in supernet.named_parameters():
            if any(name.startswith(layer + part) for layer in learned for part in ("weight", "transforms.")):
                continue  # not a slice; see test_learned_kernels_are_chained_transforms_of_the_centre
            if name not in slices:
                assert parameter.grad is None  # a layer that the subnet does not have
                continue
            assert parameter.grad is not None
            inside = window(parameter, rules[name])
            outside = parameter.grad.clone()
            outside[inside] = 0
            assert outside.count_nonzero() == 0
            expected = slices[name].grad
            assert expected is not None
            scale = max(1.0, float(expected.abs().max()))
            torch.testing.assert_close(parameter.grad[inside], expected, rtol=0, atol=1e-5 * scale)


def window(whole: Tensor, parameter: ops.Parameter) -> tuple[Tensor, ...]:
    """Indices of the weights of a smaller layer, for example its first channels and the kernel's centre."""
    axes = [
        np.concatenate([np.arange(*ends) for ends in axis.ranges(size)])
        for axis, size in zip(parameter.axes, whole.shape, strict=True)
    ]
    return tuple(map(torch.from_numpy, np.ix_(*axes)))


def test_largest_subnet_has_every_weight(space: Space, supernet: Supernet) -> None:
    largest, whole = supernet.extract(space.largest).state_dict(), supernet.state_dict()
    names = {name for name in largest if not name.endswith("num_batches_tracked")}
    # the largest subnet has no kernel transform, and may have equal widths before and after a block
    others = whole.keys() - names
    assert all(".transforms." in name or name.endswith(".shortcut.conv.weight") for name in others)
    # of parameters with options of their own, a subnet has one option
    optional = {
        f"{node.path}.{name}"
        for node in space.network(space.largest).nodes
        for name, parameter in node.parameters.items()
        if any(isinstance(axis, ops.Index) for axis in parameter.axes)
    }
    for name in names - optional:
        assert largest[name].shape == whole[name].shape
    for name in optional:
        assert largest[name].numel() < whole[name].numel()


def test_extracted_subnet_is_static_and_a_copy(space: Space, supernet: Supernet) -> None:
    static = supernet.extract(space.smallest)
    assert not [m for m in static.modules() if isinstance(m, ElasticOperator)]
    before = {name: tensor.clone() for name, tensor in supernet.state_dict().items()}
    with torch.no_grad():
        for tensor in static.state_dict().values():
            tensor.add_(1)
    for name, tensor in supernet.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)


def test_forward_does_not_change_the_state(
    space: Space, supernet: Supernet, rng: np.random.Generator
) -> None:
    supernet.train()
    x = images(space, space.largest)
    before = {name: tensor.clone() for name, tensor in supernet.state_dict().items()}
    with torch.no_grad():
        first = supernet(x, space.largest)
        for arch in some_archs(space, rng, 3):
            supernet(images(space, arch), arch)
        torch.testing.assert_close(supernet(x, space.largest), first, rtol=0, atol=0)
    for name, tensor in supernet.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)


def test_costs_equal_the_counts_of_torch(space: Space, supernet: Supernet, rng: np.random.Generator) -> None:
    for arch in some_archs(space, rng, 3):
        static = supernet.extract(arch).eval()
        assert sum(p.numel() for p in static.parameters()) == space.params(arch)
        macs = torch_macs(partial(static, images(space, arch, n=1)))
        assert macs == macs_with_relative_positions(space.network(arch).nodes)


def test_weights_are_arrays_named_after_the_layers(space: Space, supernet: Supernet) -> None:
    weights = supernet.extract(space.largest).weights()
    for node in space.network(space.largest).nodes:
        for name, parameter in node.parameters.items():
            weight = weights.pop(f"{node.path}.{name}")
            assert weight.shape == parameter.shape
            assert weight.dtype == np.float32
    assert not weights


def test_learned_kernels_are_chained_transforms_of_the_centre() -> None:
    def depthwise(kernel: int) -> Block:
        block = BlockBuilder("b", image(2, 9))
        block.add(ops.Conv2d.same(2, kernel, groups=2), "conv")
        return block.build()

    layer = elastic_operators([depthwise(7)], (3, 5, 7))["b.conv"]
    assert isinstance(layer, ElasticConv2d)
    layer.reset(torch.Generator().manual_seed(0))
    first = layer.sliced(depthwise(3).nodes[0])["weight"]
    torch.testing.assert_close(first, layer.weight[:, :, 2:5, 2:5])  # the initial maps are the identity
    with torch.no_grad():
        for i, matrix in enumerate(layer.transforms.values()):
            matrix.normal_(generator=torch.Generator().manual_seed(i))
    matrices = {name: matrix.detach().numpy() for name, matrix in layer.transforms.items()}
    seven = layer.weight.detach().numpy()
    five = np.stack([(matrices["7to5"] @ f[0, 1:6, 1:6].ravel()).reshape(1, 5, 5) for f in seven])
    three = np.stack([(matrices["5to3"] @ f[0, 1:4, 1:4].ravel()).reshape(1, 3, 3) for f in five])
    for kernel, expected in ((7, seven), (5, five), (3, three)):
        weight = layer.sliced(depthwise(kernel).nodes[0])["weight"]
        np.testing.assert_allclose(weight.detach().numpy(), expected, rtol=1e-4, atol=1e-4)


def test_network_that_resizes_takes_images_of_any_size() -> None:
    config = search_spaces.get("attentivenas").config.model_copy(update={"resolutions": (32,)})
    supernet = random_supernet(MBConvSpace(config)).eval()  # type: ignore[arg-type]
    arch = supernet.space.smallest
    x = torch.randn(2, 3, 45, 45, generator=torch.Generator().manual_seed(0))
    resized = nn.functional.interpolate(x, size=32, mode="bicubic")
    with torch.no_grad():
        torch.testing.assert_close(supernet(x, arch), supernet(resized, arch))
        torch.testing.assert_close(supernet.extract(arch)(x), supernet(x, arch), rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match=r"\(n, 3, 45, 45\), got \(2, 1, 45, 45\)"):
        supernet(x[:, :1], arch)


def test_residual_branches_are_initialized_with_zeros(tiny: Space) -> None:
    # the first block of each stage has a stride of 2 and no shortcut; the second one has a shortcut
    zeroed = Supernet(tiny, zero_init_residual=True).state_dict()
    plain = Supernet(tiny, zero_init_residual=False).state_dict()
    changed = {name for name in plain if not torch.equal(plain[name], zeroed[name])}
    assert changed == {f"stages.{s}.blocks.1.project.norm.weight" for s in (0, 1)}
    assert all(zeroed[name].count_nonzero() == 0 for name in changed)


def first_step(supernet: Supernet, arch: Arch) -> tuple[float, float]:
    """Norm of the gradient of the first step, and standard deviation of the logits between images."""
    supernet.train().zero_grad()
    x = images(supernet.space, arch, n=16)
    logits = supernet(x, arch)
    nn.functional.cross_entropy(logits, torch.arange(16) % supernet.space.config.outputs).backward()
    norm = nn.utils.clip_grad_norm_(supernet.parameters(), float("inf"))
    return float(norm), float(logits.detach().std(dim=0).mean())


MIXED_SHORTCUTS = """\
name: mixed
outputs: 3
channels: 1
resolutions: [8, 12]
divisor: 4
stem: {width: [4, 8], stride: 1, activation: relu}
stages:
  - {width: [4, 8], depth: [1, 2], kernel: [3], expand: [1, 2], activation: relu}
  - {width: [8, 12], depth: [1, 2], expand: [2], stride: 2, shortcut: projection, activation: relu}
head: {width: [16], activation: relu}
"""
"""The first block of the first stage has a shortcut only if the stem and the stage have equal widths."""


@pytest.mark.parametrize("name", ["tiny", "digits", "mixed"])
def test_gradients_of_the_first_step_are_moderate(name: str, tiny: Space, rng: np.random.Generator) -> None:
    spaces = {"tiny": tiny, "mixed": search_spaces.parse(MIXED_SHORTCUTS)}
    check_first_steps(spaces.get(name) or search_spaces.get(name), rng, 20)


@pytest.mark.slow
def test_gradients_of_the_first_step_are_moderate_in_shipped_spaces(
    space: Space, rng: np.random.Generator
) -> None:
    check_first_steps(space, rng, 6)


def check_first_steps(space: Space, rng: np.random.Generator, n: int) -> None:
    supernet = Supernet(space)
    for arch in some_archs(space, rng, n):
        gradient, difference = first_step(supernet, arch)
        # Values in the shipped spaces: 0.2 to 9 and 0.004 to 0.06. If the logits do not depend on the image,
        # the difference is 0. Each batch norm of constant maps multiplies gradients by up to
        # 1 / sqrt(eps) = 316.
        assert 0.01 < gradient < 100
        assert difference > 1e-3


@settings(max_examples=20, deadline=None)
@given(small_spaces(), st.integers(0, 2**32))
def test_initial_logits_depend_on_the_image_in_any_space(space: Space, seed: int) -> None:
    supernet = Supernet(space)
    for arch in some_archs(space, np.random.default_rng(seed), 2):
        gradient, difference = first_step(supernet, arch)
        assert math.isfinite(gradient)
        assert difference > 1e-6


def test_initial_weights_depend_only_on_the_seed(tiny: Space) -> None:
    torch.manual_seed(1)
    first = Supernet(tiny, seed=5).state_dict()
    torch.manual_seed(2)
    again, other = Supernet(tiny, seed=5).state_dict(), Supernet(tiny, seed=6).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["stem.conv.weight"], other["stem.conv.weight"])


def test_initial_weights_have_the_variance_of_he_initialization(space: Space) -> None:
    # He et al. 2015: with a variance of 2 / fan-out, a ReLU layer keeps the second moment of gradients
    for name, module in Supernet(space).named_modules():
        if isinstance(module, ElasticConv2d) and module.weight.numel() > 500:
            depthwise = module.weight.shape[1] == 1
            fan_out = module.weight[0, 0].numel() * (1 if depthwise else module.weight.shape[0])
            ratio = float(module.weight.detach().square().mean()) * fan_out / 2
            assert 0.7 < ratio < 1.4, name  # 500 normal draws: standard deviation 6 %


def test_wrong_images_and_archs_are_errors(tiny: Space, tiny_arch: Arch) -> None:
    supernet = Supernet(tiny)
    for shape in ((2, 3, 8, 8), (2, 1, 6, 6), (1, 8, 8)):
        with pytest.raises(ValueError, match=r"images must have shape \(n, 1, 8, 8\), got"):
            supernet(torch.zeros(shape), tiny_arch)
    foreign = tiny_arch | {"stem.width": 3}
    with pytest.raises(ValueError, match=r"stem\.width must be one of \(2, 4\)"):
        supernet(torch.zeros(2, 1, 8, 8), foreign)
    with pytest.raises(ValueError, match=r"stem\.width must be one of \(2, 4\)"):
        supernet.extract(foreign)


def test_static_net_needs_only_blocks(tiny: Space, tiny_arch: Arch) -> None:
    net = StaticNet(tiny.blocks(tiny_arch)).eval()
    assert net(torch.zeros(2, 1, 8, 8)).shape == (2, 3)
    assert isinstance(net.get_submodule("stem.conv"), nn.Conv2d)
