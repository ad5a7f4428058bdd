"""INT8 quantization: quantized nodes, outputs close to the float ones, and schemes by instruction set."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import onnxruntime
import pytest
from conftest import TINY_YAML
from numpy.typing import NDArray
from onnx import TensorProto

import search_spaces
from hw_profiles.measuring.runner.device_description import instruction_set
from nas.evaluation.deployed import open_onnx
from nas.onnx_backend import onnx_graph
from nas.onnx_backend.calibrate import METHODS, Method, calibrate
from nas.onnx_backend.dynamic_products import with_float_products
from nas.onnx_backend.precision import INT8, uniform_blocks
from nas.onnx_backend.quantize import QUANTIZED, SCHEMES, assumed_ranges, quantize, scheme
from nas.torch_backend.supernet import Supernet
from search_spaces import Block
from search_spaces import operators as ops

SPACE = search_spaces.parse(TINY_YAML)
BLOCKS = SPACE.blocks(SPACE.largest)  # ReLU, h-swish, SE branches and shortcuts
INT8_BLOCKS = uniform_blocks(BLOCKS, INT8)
OPERATORS = Counter(type(node.op) for block in BLOCKS for node in block.nodes)
VNNI = SCHEMES["x86-vnni"]


def float_model(batch: int | None = 1, blocks: tuple[Block, ...] = BLOCKS) -> onnx.ModelProto:
    weights = onnx_graph.random_weights(blocks, np.random.default_rng(0))
    return onnx_graph.build(blocks, weights, batch=batch, metadata={"key": "text"})


def images(n: int) -> NDArray[np.float32]:
    return np.random.default_rng(1).standard_normal((n, *BLOCKS[0].inputs[0].shape), dtype=np.float32)


def run(model: onnx.ModelProto, x: NDArray[np.float32]) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    logits: NDArray[np.float32] = session.run(None, {onnx_graph.INPUT: x})[0]
    return logits


def optimized_ops(model: onnx.ModelProto, path: Path) -> Counter[str]:
    """Number of nodes by type after the graph optimizations of ONNX Runtime on this machine."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(path)
    options.log_severity_level = 3
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(path).graph.node)


@pytest.mark.parametrize("op", [op for op in QUANTIZED if not op.in_integers])
def test_operators_without_integers_are_not_quantized(op: type[ops.Operator]) -> None:
    assert QUANTIZED[op] == ()


@pytest.mark.parametrize(
    "op",
    [
        *map(type, ops.ACTIVATIONS.values()),
        *(
            ops.PRelu,
            ops.Arithmetic,
            ops.ChannelArithmetic,
            ops.Subtract,
            ops.Multiply,
            ops.Add,
            ops.GroupNorm,
        ),
        *(ops.GlobalMaxPool, ops.GlobalAvgPool, ops.MaxPool2d, ops.AvgPool2d, ops.Resize),
    ],
)
def test_operators_that_compute_feature_maps_have_integers_if_quantized(op: type[ops.Operator]) -> None:
    assert op.in_integers == bool(QUANTIZED[op])


def test_ranges_cover_all_batches_and_include_zero() -> None:
    model, x = float_model(), images(6)
    ranges = calibrate(model, [x[:2], x[2:]])
    assert ranges == calibrate(model, [x])
    assert ranges.keys() == {onnx_graph.INPUT, *(node.output[0] for node in model.graph.node)}
    assert ranges[onnx_graph.INPUT] == (float(x.min()), float(x.max()))
    logits = run(float_model(batch=6), x)
    assert ranges[onnx_graph.LOGITS] == pytest.approx((min(0, logits.min()), max(0, logits.max())), abs=1e-4)
    assert all(low <= 0 <= high for low, high in ranges.values())
    assert ranges.keys() == assumed_ranges(model).keys()


@pytest.mark.parametrize("method", METHODS)
def test_outlier_widens_the_range_of_minmax_only(method: Method) -> None:
    x = images(1000)
    x[0, :, 0, 0] = 40.0  # 1 of 64,000 pixels: less than the 0.005 % that a percentile leaves out
    _, high = calibrate(float_model(), [x[:500], x[500:]], method)[onnx_graph.INPUT]
    assert (high == 40.0) == (method == "minmax")
    assert high > 4 or method == "percentile"


@pytest.mark.parametrize("method", METHODS)
def test_ranges_of_all_methods_are_within_those_of_minmax(method: Method) -> None:
    model, x = float_model(), images(16)
    widest, ranges = calibrate(model, [x]), calibrate(model, [x[:8], x[8:]], method)
    assert ranges.keys() == widest.keys()
    for name, (low, high) in ranges.items():
        assert widest[name][0] <= low <= 0 <= high <= widest[name][1]
    expected = run(float_model(batch=16), x)
    outputs = run(quantize(float_model(batch=16), INT8_BLOCKS, ranges, SCHEMES["x86"]), x)
    # entropy clips more where there are few values
    limit = 0.5 if method == "entropy" else 0.15
    assert np.linalg.norm(outputs - expected) < limit * np.linalg.norm(expected)


@pytest.mark.parametrize("name", SCHEMES)
def test_outputs_are_close_to_the_float_ones(name: str) -> None:
    model, x = float_model(batch=None), images(32)
    before = model.SerializeToString()
    quantized = quantize(model, INT8_BLOCKS, calibrate(model, [x]), SCHEMES[name])
    assert model.SerializeToString() == before
    expected, outputs = run(model, x), run(quantized, x)
    # about 20 layers are rounded to 1/256 of their range: 20**0.5 / 256 = 0.02, well below the limit of 0.1
    assert np.linalg.norm(outputs - expected) < 0.1 * np.linalg.norm(expected)
    assert not np.array_equal(outputs, expected)


@pytest.mark.parametrize(
    ("name", "activations"),
    [("x86", TensorProto.UINT8), ("x86-vnni", TensorProto.UINT8), ("arm", TensorProto.INT8)],
)
def test_types_by_instruction_set(name: str, activations: int) -> None:
    model = float_model()
    quantized = quantize(model, INT8_BLOCKS, assumed_ranges(model), scheme(name))
    constants = {constant.name: constant for constant in quantized.graph.initializer}
    zero_points = [constants[n.input[2]] for n in quantized.graph.node if n.op_type == "QuantizeLinear"]
    assert {constant.data_type for constant in zero_points} == {activations}
    weights = [constant for key, constant in constants.items() if key.endswith("weight_quantized")]
    assert len(weights) == OPERATORS[ops.Conv2d] + OPERATORS[ops.Linear]
    assert {weight.data_type for weight in weights} == {TensorProto.INT8}
    largest = max(np.abs(onnx.numpy_helper.to_array(weight).astype(int)).max() for weight in weights)
    assert (largest <= 64) == (name == "x86")  # 7 bits
    scales = [constants[weight.name.replace("_quantized", "_scale")] for weight in weights]
    assert [scale.dims[0] for scale in scales] == [weight.dims[0] for weight in weights]  # per channel


def test_all_convolutions_and_shortcuts_are_quantized(tmp_path: Path) -> None:
    model = float_model()
    counts = optimized_ops(
        quantize(model, INT8_BLOCKS, assumed_ranges(model), scheme(instruction_set())), tmp_path / "m.onnx"
    )
    assert counts["QLinearConv"] == OPERATORS[ops.Conv2d]
    assert counts["QLinearAdd"] == OPERATORS[ops.Add]
    assert counts["QLinearMul"] == OPERATORS[ops.Multiply]
    assert counts["QLinearGlobalAveragePool"] == OPERATORS[ops.GlobalAvgPool]
    assert counts["Conv"] == counts["Gemm"] == 0
    # only the input, the output, h-swish and hard-sigmoid are float
    float_nodes = OPERATORS[ops.HardSwish] + OPERATORS[ops.HardSigmoid]
    assert counts["QuantizeLinear"] == counts["DequantizeLinear"] == float_nodes + 1


def test_metadata_and_interface_do_not_change() -> None:
    model = float_model(batch=3)
    quantized = quantize(model, INT8_BLOCKS, assumed_ranges(model), VNNI)
    onnx.checker.check_model(quantized, full_check=True)
    assert list(quantized.metadata_props) == list(model.metadata_props)
    assert list(quantized.graph.input) == list(model.graph.input)
    assert list(quantized.graph.output) == list(model.graph.output)


def test_unknown_instruction_set_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"one of \['x86-vnni', 'x86', 'arm'\], got riscv64"):
        scheme("riscv64")


TRANSFORMER = """\
family: vit
name: small
outputs: 3
channels: 1
resolutions: [8]
patch: 4
width: [8]
depth: [2]
heads: [2]
head_dim: 4
mlp: [16]
relative: {kind: tables, distance: 2}
layer_scale: 0.5
"""


@pytest.mark.parametrize("tokens", ["dynamic", "static"])
def test_only_products_with_weights_are_quantized_on_tokens(tokens: Literal["dynamic", "static"]) -> None:
    space = search_spaces.parse(TRANSFORMER)
    blocks = space.blocks(space.largest)
    model = onnx_graph.build(blocks, Supernet(space).extract(space.largest).weights(), batch=None)
    x = np.random.default_rng(1).standard_normal((16, 1, 8, 8), dtype=np.float32)
    quantized = quantize(
        model, uniform_blocks(blocks, INT8), calibrate(model, [x]), replace(VNNI, tokens=tokens)
    )
    onnx.checker.check_model(quantized, full_check=True)
    before = Counter(node.op_type for node in model.graph.node)
    after = Counter(node.op_type for node in quantized.graph.node)
    # the patches, the classifier, and in each of 2 blocks the queries, keys and values, the projection and
    # both layers of the MLP
    constants = {constant.name: constant for constant in quantized.graph.initializer}
    integers = [name for name, c in constants.items() if c.data_type == TensorProto.INT8 and len(c.dims) > 1]
    assert len(integers) == 2 + 2 * 4
    assert after["MatMulInteger"] == (2 * 4 if tokens == "dynamic" else 0)
    for name in ("Softmax", "LayerNormalization", "Erf", "Add"):
        assert after[name] == before[name]
    # products with weights and the patches have integer inputs, and nothing else has
    pairs = 2 + (0 if tokens == "dynamic" else 2 * 4)
    assert after["QuantizeLinear"] <= 2 * pairs
    expected, outputs = run(model, x), run(quantized, x)
    assert np.linalg.norm(outputs - expected) < 0.1 * np.linalg.norm(expected)


def test_products_of_integers_as_floats_are_exact() -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(200, 256, (7, 256)).astype(np.uint8)  # sums of two products do not fit into 16 bits
    weight = rng.integers(100, 128, (256, 5)).astype(np.int8)
    zero = np.uint8(3)
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMulInteger", ["input", "weight", "zero"], ["logits"], name="product")],
        "product",
        [onnx.helper.make_tensor_value_info("input", TensorProto.UINT8, x.shape)],
        [onnx.helper.make_tensor_value_info("logits", TensorProto.FLOAT, (7, 5))],
        [onnx.numpy_helper.from_array(np.asarray(v), n) for n, v in (("weight", weight), ("zero", zero))],
    )
    opsets = [onnx.helper.make_opsetid("", onnx_graph.OPSET)]
    model = with_float_products(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    expected = (x.astype(np.int64) - int(zero)) @ weight.astype(np.int64)  # below 2 ** 24
    np.testing.assert_array_equal(session.run(None, {"input": x})[0], expected)


@pytest.mark.parametrize("name", SCHEMES)
def test_file_for_another_processor_computes_what_its_nodes_say(name: str) -> None:
    model, x = float_model(None), images(16)
    quantized = quantize(model, INT8_BLOCKS, calibrate(model, [x]), scheme(name))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    plain = onnxruntime.InferenceSession(
        quantized.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    expected = plain.run(None, {onnx_graph.INPUT: x})[0]
    found = open_onnx(quantized.SerializeToString(), name)(x)
    # a value between two steps of INT8 may be rounded to the other one
    assert np.abs(found - expected).mean() <= 0.005 * np.abs(expected).max()
