"""The ResNet-D family."""

import hypothesis.strategies as st
import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given, settings

import search_spaces
from nas.onnx_backend import onnx_graph
from nas.torch_backend.supernet import Supernet
from search_spaces import Arch, Space
from search_spaces.costs import macs_table, params_table
from search_spaces.families.resnet import ResNetConfig, ResNetSpace
from search_spaces.operators import Add, Relu

TINY_YAML = """\
family: resnet
name: tiny
outputs: 3
channels: 3
resolutions: [9, 16]
divisor: 2
stem: {width: [4, 6], mid: [2, 2, 4], depth: [2, 3]}
stages:
  - {width: [8, 12], depth: [1, 2], expand: [0.25, 0.5], stride: 1}
  - {width: [16], depth: [2, 3], expand: [0.25, 0.5], stride: 2}
"""
TINY = search_spaces.parse(TINY_YAML)
OFA = search_spaces.get("ofa-resnet50")


@st.composite
def spaces(draw: st.DrawFn) -> Space:
    """Small spaces of the family."""

    def options(*values: float) -> st.SearchStrategy[list[float]]:
        return st.lists(st.sampled_from(values), min_size=1, max_size=2, unique=True).map(sorted)

    stage = st.fixed_dictionaries(
        {
            "width": options(4, 8, 12),
            "depth": options(1, 2),
            "expand": options(0.25, 0.5, 1),
            "stride": st.sampled_from([1, 2]),
        }
    )
    config = {
        "family": "resnet",
        "name": "any",
        "outputs": 3,
        "channels": draw(st.sampled_from([1, 3])),
        "resolutions": draw(options(5, 8)),
        "divisor": 2,
        "stem": {"width": draw(options(4, 6)), "mid": [2, 2, 4], "depth": draw(options(2, 3))},
        "stages": draw(st.lists(stage, min_size=1, max_size=2)),
    }
    return ResNetSpace(ResNetConfig.model_validate(config))


@settings(max_examples=15, deadline=None)
@given(spaces(), st.integers(0, 2**32))
def test_genomes_archs_and_yaml_round_trip(space: Space, seed: int) -> None:
    raw = np.random.default_rng(seed).integers(0, space.n_options, size=(30, len(space.genes)))
    archs = space.decode(raw)
    np.testing.assert_array_equal(space.encode(archs), space.canonical(raw))
    assert [Arch.from_json(arch.to_json()) for arch in archs] == archs
    again = search_spaces.parse(space.to_yaml())
    assert [again.blocks(arch) for arch in archs] == [space.blocks(arch) for arch in archs]
    np.testing.assert_array_equal(macs_table(space)(raw), [space.macs(arch) for arch in archs])
    np.testing.assert_array_equal(params_table(space)(raw), [space.params(arch) for arch in archs])


@settings(max_examples=10, deadline=None)
@given(spaces(), st.integers(0, 2**32))
def test_outputs_of_the_extracted_subnet_equal_the_supernet(space: Space, seed: int) -> None:
    supernet = Supernet(space, zero_init_residual=False).eval()
    rng = np.random.default_rng(seed)
    for arch in [space.smallest, space.largest, *space.decode(space.sample(rng, 2))]:
        shape = (2, space.config.channels, *[space.image_size(arch)] * 2)
        x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
        static = supernet.extract(arch)
        with torch.no_grad():
            torch.testing.assert_close(static(x), supernet(x, arch), rtol=0, atol=1e-5)
        assert sum(p.numel() for p in static.parameters()) == space.params(arch)


def test_outputs_of_onnx_are_equal() -> None:
    supernet = Supernet(TINY, zero_init_residual=False).eval()
    for arch in TINY.decode(TINY.sample(np.random.default_rng(0), 5)):
        x = torch.randn(1, 3, *[TINY.image_size(arch)] * 2, generator=torch.Generator().manual_seed(1))
        model = onnx_graph.build(TINY.blocks(arch), supernet.extract(arch).weights())
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        with torch.no_grad():
            expected = supernet(x, arch).numpy()
        found = session.run(None, {onnx_graph.INPUT: x.numpy()})[0]
        np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def test_every_weight_has_a_gradient() -> None:
    # a ReLU after a batch norm of zeros would block all gradients
    supernet = Supernet(TINY).train()
    for seed in range(8):  # after the first step, the weights of the batch norms are not zero
        x = torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(seed))
        supernet(x, TINY.largest).square().sum().backward()
        with torch.no_grad():
            for parameter in supernet.parameters():
                assert parameter.grad is not None
                parameter.sub_(parameter.grad, alpha=0.01)
    for name, parameter in supernet.named_parameters():
        assert parameter.grad is not None
        assert parameter.grad.count_nonzero() > 0, name


def test_counts_equal_the_published_ones() -> None:
    # 3 stages of 2-4 blocks: 3^2 + 3^3 + 3^4 = 117 expands; one of 4-6: 3^4 + 3^5 + 3^6 = 1053; 3 widths for
    # each stage and the stem's output, 2 stem depths; stem mid: 3 codes, 2 widths; 25 resolutions
    one_mid = 117**3 * 1053 * 3**5 * 2
    assert OFA.n_subnets == one_mid * 2 * 25
    assert OFA.n_codes == one_mid * 3 * 25
    assert TINY.n_codes * 2 == TINY.n_subnets * 3


@pytest.mark.parametrize(
    ("arch", "resolution", "million_macs", "million_params"),
    [
        (OFA.largest, 128, 2447.6, 48.106),
        (OFA.largest, 160, 3823.3, 48.106),
        (OFA.largest, 224, 7491.6, 48.106),
        (OFA.smallest, 128, 315.1, 6.539),
        (OFA.smallest, 160, 491.6, 6.539),
        (OFA.smallest, 224, 962.2, 6.539),
    ],
)
def test_costs_equal_those_of_the_released_code(
    arch: Arch, resolution: int, million_macs: float, million_params: float
) -> None:
    arch = arch | {"resolution": resolution}
    assert OFA.macs(arch) / 1e6 == pytest.approx(million_macs, abs=0.05)
    assert OFA.params(arch) / 1e6 == pytest.approx(million_params, abs=0.0005)


PUBLISHED_CHANNELS = {  # inner channels of a width for expand 0.2, 0.25, 0.35
    256: (48, 64, 88), 512: (104, 128, 176), 1024: (208, 256, 360), 2048: (408, 512, 720),
    168: (32, 40, 56), 336: (64, 88, 120), 664: (136, 168, 232), 1328: (264, 336, 464),
    208: (40, 56, 72), 408: (80, 104, 144), 816: (160, 208, 288), 1640: (328, 408, 576),
}  # fmt: skip


def test_inner_channels_equal_the_published_ones() -> None:
    space = OFA.with_data(outputs=1000, channels=3, resolutions=(128,))
    found: dict[int, set[int]] = {width: set() for width in PUBLISHED_CHANNELS}
    for slot in space.slots:
        for block in space.slot_blocks(slot) if slot.stage is not None else ():
            channels = {node.name: node.output.channels for node in block.nodes}
            found[channels["conv3"]].add(channels["conv2"])
    assert {width: tuple(sorted(inner)) for width, inner in found.items()} == PUBLISHED_CHANNELS


def test_stem_without_its_middle_convolution() -> None:
    names = [[block.name for block in TINY.blocks(arch)] for arch in (TINY.smallest, TINY.largest)]
    assert "stem.1" not in names[0]
    assert names[1][:3] == ["stem.0", "stem.1", "stem.2"]


def test_only_first_blocks_of_stages_have_a_projection() -> None:
    for slot in OFA.slots:
        if slot.stage is None:
            continue
        block = next(iter(OFA.slot_blocks(slot)))
        shortcut = [node.name for node in block.nodes if node.name.startswith("downsample")]
        if slot.position:
            assert shortcut == []
        elif slot.stage == 0:  # stride 1: nothing to average
            assert shortcut == ["downsample.conv", "downsample.conv.norm"]
        else:
            assert shortcut == ["downsample.pool", "downsample.conv", "downsample.conv.norm"]
        assert [type(node.op) for node in block.nodes[-2:]] == [Add, Relu]


GOOD = TINY.smallest


@pytest.mark.parametrize(
    ("arch", "message"),
    [
        (GOOD | {"stem.depth": 4}, r"stem\.depth must be one of \(2, 3\)"),
        (GOOD | {"stem.mid": 3}, r"stem\.mid must be one of \(2, 4\)"),
        (GOOD | {"head.width": 8}, r"missing none, unknown or switched off head\.width"),
        (GOOD | {"stages.0.depth": 3}, r"stages\.0\.depth must be one of \(1, 2\)"),
        (GOOD | {"stages.0.depth": 2}, r"missing stages\.0\.blocks\.1\.expand, unknown .* none"),
    ],
)  # fmt: skip
def test_arch_outside_the_space_is_an_error(arch: Arch, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TINY.blocks(arch)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("mid: [2, 2, 4]", "mid: [4, 2, 2]", r"line 7, stem\.mid: options must be a rising list"),
        ("depth: [2, 3]}\nst", "depth: [1, 3]}\nst", r"line 7, stem\.depth\.0: input should be 2 or 3"),
        ("expand: [0.25, 0.5], stride: 1", "expand: [0, 0.5], stride: 1", r"stages\.0\.expand\.0: .*greater"),
        ("expand: [0.25, 0.5], stride: 1", "expand: [0.25, .inf], stride: 1", r"\.expand\.1: .*finite"),
    ],
)
def test_error_of_a_wrong_file_has_the_line(old: str, new: str, message: str) -> None:
    assert old in TINY_YAML
    with pytest.raises(ValueError, match=message):
        search_spaces.parse(TINY_YAML.replace(old, new, 1))


def test_arch_of_another_family_is_an_error(tiny: Space, tiny_arch: Arch) -> None:
    with pytest.raises(ValueError, match=r"missing .*stem\.depth"):
        TINY.encode([tiny_arch | {"stem.width": 4, "resolution": TINY.resolutions[0]}])
    with pytest.raises(ValueError, match=r"unknown or switched off stem\.mid"):
        tiny.encode([tiny_arch | {"stem.mid": 2}])
