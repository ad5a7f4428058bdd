"""The family of convolution and attention stages."""

import json
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import onnxruntime
import pytest
import torch
import yaml
from conftest import Nas
from hypothesis import given, settings
from test_vit import (
    assert_genomes_yaml_and_costs_agree,
    assert_outputs_are_equal,
    with_random_tables,
)

import search_spaces
from benchmarks import hybrid_table
from nas.notation.arch_file import load_arch
from nas.notation.elasticvit import arch_to_elasticvit
from nas.notation.nasvit import arch_to_nasvit
from nas.notation.published import arch_from_notation
from nas.onnx_backend import onnx_graph
from nas.onnx_backend.calibrate import calibrate
from nas.onnx_backend.precision import INT8, uniform_blocks
from nas.onnx_backend.quantize import quantize, scheme
from nas.report import drawing
from nas.runs.files import EXPORTS
from nas.torch_backend.channel_order import sort_channels
from nas.torch_backend.supernet import Supernet
from search_spaces import Space
from search_spaces.families.hybrid import HybridConfig, HybridSpace
from search_spaces.operators import Scale

STAGE = {"kind": "attention", "width": [8, 16], "depth": [1, 2], "expand": [2], "shortcut": "projection"}
TINY: dict[str, Any] = {
    "family": "hybrid",
    "name": "tiny",
    "outputs": 3,
    "channels": 1,
    "resolutions": [12, 20],  # maps of 3 and 5 pixels in the first attention stage, and of 2 and 3 after it
    "stem": {"width": [4, 8]},
    "stages": [
        {"kind": "conv", "width": [4, 8], "depth": [1, 2], "kernel": [3, 5], "expand": [1], "per": "stage"},
        {**STAGE, "stride": 2, "value_ratio": [1, 2], "mlp_ratio": [1, 1.5]},
        {**STAGE, "stride": 2, "se": True},
    ],
    "attention": {"head_dim": 4},
    "head": {"width": [6], "pool_expand": 2},
}
"""Keys of a small space."""


@st.composite
def spaces(draw: st.DrawFn) -> Space:
    """Small spaces of the family."""
    attention = {
        "head_dim": draw(st.sampled_from([4, 8])),
        "activation": draw(st.sampled_from(["swish", "hard_swish"])),
        "qkv_bias": draw(st.booleans()),
        "talking_heads": draw(st.booleans()),
        "mixed_channels": draw(st.booleans()),
        "mlps": draw(st.sampled_from([1, 2])),
        "scaling": draw(st.sampled_from([None, {"init": 0.5, "period": 3}])),
    }
    conv, *others = TINY["stages"]
    stages = [conv | {"same_width": draw(st.booleans())}, *others]
    head = TINY["head"] | {"mix_bias": draw(st.booleans())}
    changes = {"attention": attention, "stages": stages, "head": head}
    return HybridSpace(HybridConfig.model_validate(TINY | changes))


@settings(max_examples=5, deadline=None)
@given(spaces(), st.integers(0, 2**32))
def test_genomes_yaml_and_costs(space: Space, seed: int) -> None:
    assert_genomes_yaml_and_costs_agree(space, seed, 20)


@settings(max_examples=4, deadline=None)
@given(spaces(), st.integers(0, 2**32))
def test_outputs_of_extracted_and_onnx_networks_equal_the_supernet(space: Space, seed: int) -> None:
    supernet = with_random_tables(space, seed)
    rng = np.random.default_rng(seed)
    for arch in [space.smallest, space.largest, *space.decode(space.sample(rng, 2))]:
        assert_outputs_are_equal(supernet, arch)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nasvit", "elasticvit"])
def test_outputs_in_shipped_spaces(name: str, rng: np.random.Generator) -> None:
    space = search_spaces.get(name)
    supernet = Supernet(space, zero_init_residual=False).eval()
    for arch in space.decode(space.sample(rng, 5)):
        assert_outputs_are_equal(supernet, arch)


def test_int8_network_computes_nearly_the_same() -> None:
    scaling = {"init": 0.5, "period": 3}
    attention = {"head_dim": 4, "talking_heads": True, "mixed_channels": True, "mlps": 2, "scaling": scaling}
    space = HybridSpace(HybridConfig.model_validate(TINY | {"attention": attention}))
    blocks = space.blocks(space.largest)
    weights = Supernet(space, zero_init_residual=False).eval().extract(space.largest).weights()
    model = onnx_graph.build(blocks, weights, batch=None)
    x = np.random.default_rng(0).standard_normal((8, 1, 20, 20), dtype=np.float32)
    quantized = quantize(model, uniform_blocks(blocks, INT8), calibrate(model, [x]), scheme("x86-vnni"))
    expected, found = (
        onnxruntime.InferenceSession(m.SerializeToString(), providers=["CPUExecutionProvider"]).run(
            None, {onnx_graph.INPUT: x}
        )[0]
        for m in (model, quantized)
    )
    assert not np.array_equal(expected, found)
    assert np.linalg.norm(expected - found) < 0.3 * np.linalg.norm(expected)  # of random weights


def test_layer_norm_over_tokens_normalizes_all_tokens_together() -> None:
    supernet = with_random_tables(HybridSpace(HybridConfig.model_validate(TINY)), 0)
    block = next(b for b in supernet.space.blocks(supernet.space.largest) if b.name.endswith("mlp"))
    node = block.nodes[0]
    x = torch.randn(2, *node.specs[0].shape, generator=torch.Generator().manual_seed(0))
    norm = supernet.operator(node)
    with torch.no_grad():
        plain = (norm(node, [x]) - norm.get_parameter("bias")) / norm.get_parameter("weight")
    torch.testing.assert_close(plain.mean((1, 2)), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(plain.var((1, 2), correction=0), torch.ones(2), atol=1e-4, rtol=0)


def test_sorted_channels_of_convolutions_leave_the_largest_subnet_unchanged() -> None:
    stages = [stage | {"expand": [2, 3], "se": True} for stage in TINY["stages"]]
    supernet = with_random_tables(HybridSpace(HybridConfig.model_validate(TINY | {"stages": stages})), 0)
    before = supernet.get_parameter("stages.1.entry.expand.weight").clone()
    x = torch.randn(2, 1, 20, 20, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = supernet(x, supernet.space.largest)
        sort_channels(supernet)
        found = supernet(x, supernet.space.largest)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
    assert not torch.equal(before, supernet.get_parameter("stages.1.entry.expand.weight"))


def test_factors_depend_on_depth_and_number_of_tokens(rng: np.random.Generator) -> None:
    attention = {"head_dim": 4, "scaling": {"init": 0.5, "period": 3}}
    space = HybridSpace(HybridConfig.model_validate(TINY | {"attention": attention}))
    for arch in space.decode(space.sample(rng, 20)):
        for block in space.blocks(arch):
            for node in block.nodes:
                if isinstance(node.op, Scale):
                    depth = arch[f"stages.{block.name.split('.')[1]}.depth"]
                    assert node.op.option == (depth, node.output.pixels % 3)
                    assert node.op.multiplier == 3 / node.output.channels
                    assert node.params == node.output.channels


def test_notations_are_read_and_written(rng: np.random.Generator, tmp_path: Path) -> None:
    path = tmp_path / "arch.json"
    for source, write in (("nasvit", arch_to_nasvit), ("elasticvit", arch_to_elasticvit)):
        space = search_spaces.get(source)
        for arch in space.decode(space.sample(rng, 5)):
            notation = write(space, arch)
            assert arch_from_notation(source, space, notation) == arch
            path.write_text(json.dumps(notation))
            assert load_arch(space, path) == arch


def test_smallest_arch_of_nasvit() -> None:
    space = search_spaces.get("nasvit")
    notation = {
        "resolution": 192,
        "width": [16, 16, 24, 32, 64, 112, 160, 208, 1792],
        "depth": [1, 3, 3, 3, 3, 3, 3],
        "kernel_size": [3] * 7,
        "expand_ratio": [1, 4, 4, 4, 4, 6, 6],
    }
    assert arch_from_notation("nasvit", space, notation) == space.smallest
    with pytest.raises(ValueError, match=r"missing \['depth'\]"):
        arch_from_notation("nasvit", space, {k: v for k, v in notation.items() if k != "depth"})


@pytest.mark.parametrize(
    ("entry", "value", "message"),
    [
        (1, [16] * 6, "widths must have 7 numbers"),
        (3, [1, 3, 4, 3, 3, 3], "the expand must be equal in all blocks of stage 1, got"),
        (6, [4, 6, 11, 16], "heads must be widths / 16, got 16 for a width of 272"),
        (7, [1, 1, 7, 1], "windows must all be 1"),
        (9, [5] * 4, "value_ratio"),
    ],
)
def test_wrong_notation_of_elasticvit_is_an_error(entry: int, value: list[int], message: str) -> None:
    _, notation, _ = hybrid_table.ELASTICVIT[0]
    wrong = [value if i == entry else part for i, part in enumerate(notation)]
    space = search_spaces.get("elasticvit")
    with pytest.raises(ValueError, match=message):
        arch_from_notation("elasticvit", space, wrong)
    with pytest.raises(ValueError, match="must be a list of 10 entries"):
        arch_from_notation("elasticvit", space, wrong[1:])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stages": TINY["stages"][::-1]}, "stages must be of the kind conv first"),
        ({"stages": TINY["stages"][:1]}, "stages must be of the kind conv first"),
        ({"attention": {"head_dim": 3}}, r"stages.1.width must have multiples of head_dim 3, got \[8, 16\]"),
        (
            {"stages": [TINY["stages"][0] | {"width": [6], "same_width": True}, STAGE]},
            "because of same_width",
        ),
        ({"stages": [STAGE | {"per": "block"}]}, "per"),
    ],
)
def test_inconsistent_configs_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HybridConfig.model_validate(TINY | changes)


def test_picture_has_the_strides_and_options_of_all_blocks() -> None:
    space = HybridSpace(HybridConfig.model_validate(TINY))
    # stem 8; 2 blocks of kernel 5; then an MBConv block, and attention and MLP of 2 blocks
    branches = "v2 m1.5 v2 m1.5"
    expected = f"20px · 8 | 8: k5e1 k5e1 | 16: k3e2 {branches} | 16: k3e2 v1 m1 v1 m1 | 6"
    assert drawing.compact(space, space.largest) == expected
    # the stem and both attention stages halve the map
    assert drawing.draw(space, space.largest).count(">s2</text>") == 3


@pytest.mark.slow
@pytest.mark.usefixtures("quick_measuring", "quick_search")
def test_run_from_training_to_benchmarked_files(nas: Nas, tmp_path: Path) -> None:
    attention = {"head_dim": 4, "talking_heads": True, "mlps": 2, "scaling": {}}
    space = TINY | {"resolutions": [6, 8], "outputs": 10, "attention": attention}
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(space))
    (tmp_path / "recipe.yaml").write_text(
        f"space: {tmp_path / 'space.yaml'}\n"
        "epochs: 1\n"
        "data: {dataset: digits, batch_size: 256}\n"
        "optimizer: {kind: adamw}\n"
        "regularization: {drop_connect: 0.1}\n"
        "gradient_projection: {enabled: true}\n"
        "compute: {accelerator: cpu}\n"
    )
    run, profiles = tmp_path / "run", ("--profiles", tmp_path / "profiles")
    for command in (
        ("train", "--config", tmp_path / "recipe.yaml", "--out", run),
        ("evaluate", run),
        ("profile", run, "--device", "here", *profiles, "--held-out", 8),
        ("search", run, "--device", "here", *profiles, "--budget", 20, "--predictor", "ridge"),
        ("export", run, "--pick", "knee", "--precision", "fp32"),
        ("export", run, "--pick", "knee", "--precision", "int8"),
        ("report", run),
    ):
        answer = nas(*command)
        assert answer.code == 0, answer.err
    models = sorted((run / EXPORTS).rglob("*.onnx"))
    assert nas("benchmark", *models).code == 0
