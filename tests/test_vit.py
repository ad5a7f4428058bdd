"""The family of vision transformers."""

from typing import Any

import hypothesis.strategies as st
import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given, settings

import search_spaces
from nas.onnx_backend import onnx_graph
from nas.recipes.groups import AdamWConfig, FinetuningConfig
from nas.torch_backend.dropout import Dropout
from nas.torch_backend.supernet import Supernet
from nas.training.optimizers import parameter_groups
from search_spaces import Arch, Space
from search_spaces.costs import macs_table, params_table, peak_memory_table
from search_spaces.families.vit import ViTConfig, ViTSpace
from search_spaces.memory import peak_memory_bytes

TINY = {
    "family": "vit",
    "name": "tiny",
    "outputs": 3,
    "channels": 1,
    "resolutions": [4, 8],
    "patch": 2,
    "width": [4, 6],
    "depth": [1, 2],
    "heads": [1, 2],
    "head_dim": 3,
    "mlp_ratio": [1.5, 2],
}
"""Keys of a small space."""


@st.composite
def spaces(draw: st.DrawFn) -> Space:
    """Small spaces of the family."""
    relative = draw(st.sampled_from([None, {"kind": "tables", "distance": 2}, {"kind": "bias"}]))
    prefix = 0 if relative == {"kind": "bias"} else draw(st.integers(0, 2))
    pools = ["mean", *["token"] * (prefix > 0), *["two_tokens"] * (prefix > 1)]
    pool = draw(st.sampled_from(pools))
    changes: dict[str, Any] = {
        "relative": relative,
        "prefix": prefix,
        "pool": pool,
        "norm_pooled": pool == "mean" and draw(st.booleans()),
        "position": draw(st.sampled_from(["all", "patches", "none"])),
        "per": draw(st.sampled_from(["block", "network"])),
        "keep": draw(st.sampled_from([None, [1, 0]])),
        "layer_scale": draw(st.sampled_from([None, 0.5])),
        "qkv_bias": draw(st.booleans()),
        "flat_qkv_bias": draw(st.booleans()),
    }
    if pool == "two_tokens":
        changes["width"] = [6]
    if draw(st.booleans()):
        changes |= {"mlp_ratio": [], "mlp": [5, 9]}
    return ViTSpace(ViTConfig.model_validate(TINY | changes))


def with_random_tables(space: Space, seed: int) -> Supernet:
    """A supernet all of whose weights affect the output."""
    supernet = Supernet(space, seed).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in supernet.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.3)
    return supernet


@settings(max_examples=10, deadline=None)
@given(spaces(), st.integers(0, 2**32))
def test_genomes_archs_yaml_and_costs(space: Space, seed: int) -> None:
    archs = assert_genomes_yaml_and_costs_agree(space, seed, 30)
    assert [Arch.from_json(arch.to_json()) for arch in archs] == archs


def assert_genomes_yaml_and_costs_agree(space: Space, seed: int, n: int) -> list[Arch]:
    """Check `n` random archs of a space; returns them."""
    raw = np.random.default_rng(seed).integers(0, space.n_options, size=(n, len(space.genes)))
    archs = space.decode(raw)
    np.testing.assert_array_equal(space.encode(archs), space.canonical(raw))
    again = search_spaces.parse(space.to_yaml())
    assert [again.blocks(arch) for arch in archs] == [space.blocks(arch) for arch in archs]
    np.testing.assert_array_equal(macs_table(space)(raw), [space.macs(arch) for arch in archs])
    np.testing.assert_array_equal(params_table(space)(raw), [space.params(arch) for arch in archs])
    peaks = [peak_memory_bytes(space.network(arch)) for arch in archs]
    np.testing.assert_array_equal(peak_memory_table(space).largest(raw), peaks)
    return archs


@settings(max_examples=10, deadline=None)
@given(spaces(), st.integers(0, 2**32))
def test_outputs_of_extracted_and_onnx_networks_equal_the_supernet(space: Space, seed: int) -> None:
    supernet = with_random_tables(space, seed)
    rng = np.random.default_rng(seed)
    for arch in [space.smallest, space.largest, *space.decode(space.sample(rng, 2))]:
        assert_outputs_are_equal(supernet, arch)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vit-digits", "autoformer-tiny", "deit-tiny"])
def test_outputs_in_shipped_spaces(name: str, rng: np.random.Generator) -> None:
    space = search_spaces.get(name)
    supernet = Supernet(space).eval()
    for arch in [space.smallest, space.largest, *space.decode(space.sample(rng, 1))]:
        assert_outputs_are_equal(supernet, arch)


def assert_outputs_are_equal(supernet: Supernet, arch: Arch) -> None:
    space = supernet.space
    shape = (2, space.config.channels, *[space.image_size(arch)] * 2)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    static = supernet.extract(arch)
    with torch.no_grad():
        expected = supernet(x, arch)
        assert torch.equal(static(x), expected)
    assert sum(p.numel() for p in static.parameters()) == space.params(arch)
    model = onnx_graph.build(space.blocks(arch), static.weights(), batch=2)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found = session.run(None, {onnx_graph.INPUT: x.numpy()})[0]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * max(1.0, float(expected.abs().max())))


def test_smaller_depths_leave_out_the_least_important_blocks() -> None:
    space = ViTSpace(ViTConfig.model_validate(TINY | {"depth": [1, 2, 3], "keep": [2, 0, 1]}))
    for depth, kept in ((1, ["2"]), (2, ["0", "2"]), (3, ["0", "1", "2"])):
        archs = [a for a in space.decode(space.all_subnets()) if a["depth"] == depth]
        assert archs
        for arch in archs:
            names = [block.name for block in space.blocks(arch)[1:-1]]
            parts = ("attention", "mlp")
            assert names == [f"stages.0.blocks.{b}.{part}" for b in kept for part in parts]
            assert {name.split(".")[3] for name in arch if name.startswith("stages")} == set(kept)


def test_number_of_subnets() -> None:
    # 12 to 14 blocks with 3 numbers of heads and 3 MLP ratios each, 3 widths
    assert search_spaces.get("autoformer-small").n_subnets == 3 * (9**12 + 9**13 + 9**14)
    # 10 to 12 blocks with 4 numbers of heads and 3 sizes of the MLP each
    assert search_spaces.get("vit-b16").n_subnets == 12**10 + 12**11 + 12**12


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"resolutions": [6, 9]}, r"resolutions must be multiples of patch 2, got \[9\]"),
        ({"mlp": [4]}, "give mlp_ratio or mlp, not both"),
        ({"mlp_ratio": []}, "give mlp_ratio or mlp, not both"),
        ({"prefix": 0}, "pool: token needs a class token: give prefix >= 1 or pool: mean"),
        ({"norm_pooled": True}, "norm_pooled needs pool: mean"),
        ({"pool": "two_tokens"}, "pool: two_tokens needs prefix >= 2 and one width"),
        ({"relative": {"kind": "bias"}}, r"relative: \{kind: bias\} needs prefix: 0"),
        ({"keep": [0, 0]}, "keep must have each block from 0 to 1 once"),
        ({"heads": [2, 1]}, "options must be a rising list"),
    ],
)
def test_inconsistent_configs_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ViTConfig.model_validate(TINY | changes)


def test_resolutions_of_other_data_must_be_multiples_of_the_patch() -> None:
    space = ViTSpace(ViTConfig.model_validate(TINY))
    with pytest.raises(ValueError, match=r"resolutions must be multiples of patch 2, got \[7\]"):
        space.with_data(outputs=3, channels=1, resolutions=(7,))


def test_images_skip_attention_and_mlp_separately() -> None:
    space = ViTSpace(ViTConfig.model_validate(TINY))
    rates = Dropout(space, 0.0, 0.8).rates
    # 2 blocks with 2 branches each: 0, 1/4, 2/4 and 3/4 of 0.8
    assert list(rates.values()) == pytest.approx([0, 0.2, 0.4, 0.6])
    branches = {block.name: block.branch for block in space.blocks(space.largest)[1:-1]}
    assert branches.keys() == rates.keys()
    assert {branch.name for branch in branches.values() if branch} == {"project"}
    assert None not in branches.values()


@pytest.mark.parametrize("relative", [{"kind": "tables"}, {"kind": "bias"}])
def test_initial_weights_and_weight_decay(relative: dict[str, Any]) -> None:
    changes = {"relative": relative, "width": [48], "layer_scale": 0.1, "head_dim": 16}
    changes |= {"prefix": 0, "pool": "mean"} if relative == {"kind": "bias"} else {}
    supernet = Supernet(ViTSpace(ViTConfig.model_validate(TINY | changes)))
    names = {id(parameter): name for name, parameter in supernet.named_parameters()}
    groups = parameter_groups(supernet, AdamWConfig(weight_decay=0.05), FinetuningConfig())
    decayed = {names[id(p)] for group in groups if group["weight_decay"] for p in group["params"]}
    assert sum(len(group["params"]) for group in groups) == len(names)
    layers = ("patch", "qkv", "project", "expand", "classifier")
    assert decayed == {
        name for name in names.values() if name.split(".")[-2] in layers and name.endswith("weight")
    }
    for name, parameter in supernet.named_parameters():
        *_, owner, kind = name.split(".")
        drawn = owner in ("position", "prefix", "attend")
        if drawn or (owner in ("qkv", "project", "expand") and kind == "weight"):
            values = parameter.detach()
            assert 0 < values.abs().max() <= 2  # truncated at 100 standard deviations
            if values.numel() > 500:
                assert 0.018 < values.std() < 0.022
        elif kind == "bias":
            assert not parameter.count_nonzero()
