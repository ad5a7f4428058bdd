"""Predicted file sizes against the sizes of written files."""

import numpy as np
import pytest

import search_spaces
from nas.evaluation.trained_run import TrainedRun
from nas.export.export import export
from nas.onnx_backend import onnx_graph
from nas.onnx_backend.file_size import ALL_INT8, BY_PRECISION, FileFormat
from nas.onnx_backend.precision import convert, uniform_blocks
from search_spaces import Block, Space
from search_spaces.precision_space import with_precision

DIGITS = search_spaces.get("digits")


RELATIVE_BIAS = """\
family: vit
name: relative bias
outputs: 10
channels: 3
resolutions: [32]
patch: 4
width: [64]
depth: [3]
heads: [2]
mlp: [128]
prefix: 0
relative: {kind: bias}
pool: mean
layer_scale: 0.1
"""


def blocks_of(name: str) -> tuple[Block, ...]:
    space = search_spaces.get(name) if name in search_spaces.names() else search_spaces.parse(name)
    return space.blocks(space.smallest)


TRANSFORMERS = ["vit-digits", RELATIVE_BIAS]
LARGE = [
    pytest.param(name, marks=pytest.mark.slow)
    for name in ("deit-tiny", "autoformer-tiny", "nasvit", "elasticvit")
]


@pytest.mark.parametrize(
    "name", ["digits", "cifar", "ofa-mbv3-w1.0", "ofa-proxyless-w1.3", *TRANSFORMERS, *LARGE]
)
def test_float_graphs(name: str) -> None:
    blocks = blocks_of(name)
    model = onnx_graph.build(blocks, onnx_graph.random_weights(blocks, np.random.default_rng(0)))
    n_layers = sum(not node.op.in_place for block in blocks for node in block.nodes)
    assert BY_PRECISION.of_blocks(blocks) == pytest.approx(model.ByteSize(), rel=0, abs=20 * n_layers)


@pytest.mark.parametrize("name", ["largest digits", "digits", *TRANSFORMERS, *LARGE])
def test_int8_graphs(name: str) -> None:
    blocks = DIGITS.blocks(DIGITS.largest) if name == "largest digits" else blocks_of(name)
    model = onnx_graph.build(blocks, onnx_graph.random_weights(blocks, np.random.default_rng(0)))
    in_int8 = uniform_blocks(blocks, "int8")
    quantized = convert(model, in_int8, "x86-vnni")
    assert ALL_INT8.of_blocks(blocks) == pytest.approx(quantized.ByteSize(), rel=0.02)
    assert BY_PRECISION.of_blocks(in_int8) == ALL_INT8.of_blocks(blocks)


@pytest.mark.parametrize("name", ["digits", pytest.param("cifar", marks=pytest.mark.slow)])
def test_graphs_of_mixed_precision(name: str, rng: np.random.Generator) -> None:
    space = with_precision(search_spaces.get(name), "block")
    blocks = space.blocks(space.decode(space.sample(rng, 1))[0])
    model = onnx_graph.build(blocks, onnx_graph.random_weights(blocks, rng))
    size = convert(model, blocks, "x86-vnni").ByteSize()
    assert BY_PRECISION.of_blocks(blocks) == pytest.approx(size, rel=0.015)


def test_exported_file_with_its_card(trained: TrainedRun) -> None:
    arch = trained.space.largest
    path = export(trained, arch).path
    assert BY_PRECISION.of_file(trained.space.blocks(arch)) == pytest.approx(path.stat().st_size, rel=0.02)


@pytest.mark.parametrize("form", [BY_PRECISION, ALL_INT8], ids=["fp32", "int8"])
def test_many_genomes_at_once_equal_one_at_a_time(
    form: FileFormat, space: Space, rng: np.random.Generator
) -> None:
    raw = rng.integers(0, space.n_options, size=(20, len(space.genes)))
    expected = [form.of_file(space.blocks(arch)) for arch in space.decode(raw)]
    assert form.of(space)(raw).tolist() == expected
