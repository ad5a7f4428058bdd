import time
from collections.abc import Sequence

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import search_spaces
from nas.onnx_backend import onnx_file, onnx_graph
from nas.torch_backend.functional import FUNCTIONS
from nas.torch_backend.static import StaticNet
from search_spaces import Block, Node
from search_spaces import operators as ops
from search_spaces.building import BlockBuilder
from search_spaces.tensors import TensorSpec, image, vector

DIGITS = search_spaces.get("digits")


def run(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {onnx_graph.INPUT: x})[0])


def torch_net(blocks: Sequence[Block], seed: int) -> StaticNet:
    """A static network whose batch norms are not the identity, as after training."""
    torch.manual_seed(seed)
    net = StaticNet(blocks).eval()
    for name, tensor in net.state_dict().items():
        if name.endswith(("norm.weight", "running_var")):
            torch.nn.init.uniform_(tensor, 0.5, 2.0)
        elif name.endswith(("norm.bias", "running_mean")):
            torch.nn.init.normal_(tensor, std=0.3)
    return net


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 2**31), name=st.sampled_from(["digits", "cifar"]), n=st.integers(1, 3))
def test_outputs_equal_torch(seed: int, name: str, n: int) -> None:
    space = search_spaces.get(name)
    rng = np.random.default_rng(seed)
    blocks = space.blocks(space.decode(space.sample(rng, 1))[0])
    net = torch_net(blocks, seed)
    x = rng.standard_normal((n, *blocks[0].inputs[0].shape), dtype=np.float32)
    expected = net(torch.from_numpy(x)).detach().numpy()
    for batch in (n, None):
        outputs = run(onnx_graph.build(blocks, net.weights(), batch=batch), x)
        np.testing.assert_allclose(outputs, expected, atol=1e-5 * max(1.0, np.abs(expected).max()))


def test_chained_blocks_equal_the_network() -> None:
    blocks = DIGITS.blocks(DIGITS.largest)
    weights = torch_net(blocks, 0).weights()
    x = np.random.default_rng(0).standard_normal((1, *blocks[0].inputs[0].shape), dtype=np.float32)
    whole = run(onnx_graph.build(blocks, weights), x)
    for block in blocks:
        x = run(onnx_graph.build([block], weights), x)
    np.testing.assert_allclose(x, whole, atol=1e-4)


def test_protobuf_reads_the_serialized_model() -> None:
    space = search_spaces.get("attentivenas")
    blocks = space.blocks(space.smallest)
    weights = onnx_graph.random_weights(blocks, np.random.default_rng(0))
    content = onnx_graph.serialize(blocks, weights, metadata={"arch": "{}"})
    model = onnx.load_from_string(content)
    assert model.ByteSize() == len(content)  # no field is duplicated or unknown to protobuf
    arrays = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    np.testing.assert_array_equal(arrays["head.classifier.weight"], weights["head.classifier.weight"])
    assert arrays["stem.resize.size"].tolist() == [192, 192]


@pytest.mark.parametrize("shape", [(), (0,), (200,), (3, 5, 7)])  # 200 floats: a length of two bytes
@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_constants_of_any_shape(shape: tuple[int, ...], dtype: type) -> None:
    values: onnx_file.Constant = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    transposed = values.T  # not contiguous
    graph = onnx.GraphProto(name="constants")
    content = onnx_file.serialize(onnx.ModelProto(), graph, {"a": values, "b": transposed})
    for tensor, expected in zip(
        onnx.load_from_string(content).graph.initializer, (values, transposed), strict=True
    ):
        array = onnx.numpy_helper.to_array(tensor)
        assert array.dtype == dtype
        np.testing.assert_array_equal(array, expected)


def single_operator_block(op: ops.Operator, *specs: TensorSpec) -> Block:
    """A block with one operator."""
    node = Node(op, "op", "b", tuple(-1 - i for i in range(len(specs))), specs)
    return Block("b", specs, (node,), (0,))


@pytest.mark.parametrize(
    ("op", "size", "reference"),
    [
        (ops.AvgPool2d(2, 2), 8, torch.nn.AvgPool2d(2)),
        (ops.AvgPool2d(2, 2, 1), 7, torch.nn.AvgPool2d(2, padding=1)),
        (ops.AvgPool2d(2, 2, ceil_mode=True), 7, torch.nn.AvgPool2d(2, ceil_mode=True)),
        (ops.MaxPool2d(3, 2, 1), 8, torch.nn.MaxPool2d(3, 2, 1)),
        (ops.MaxPool2d(3, 2, 1), 7, torch.nn.MaxPool2d(3, 2, 1)),
        (ops.Resize((8, 8)), 8, torch.nn.Identity()),
        (ops.Resize((11, 11)), 8, torch.nn.Upsample(size=11, mode="bicubic")),
        (ops.Resize((5, 6)), 8, torch.nn.Upsample(size=(5, 6), mode="bicubic")),
    ],
)
def test_pools_and_resizing(op: ops.Operator, size: int, reference: torch.nn.Module) -> None:
    block = single_operator_block(op, image(2, size))
    x = torch.randn(3, 2, size, size, generator=torch.Generator().manual_seed(0)) + 1
    expected = reference(x)
    torch.testing.assert_close(FUNCTIONS[type(op)](op, [x], {}), expected)
    for batch in (3, None):
        model = onnx_graph.build([block], {}, batch=batch)
        onnx.checker.check_model(model, full_check=True)
        np.testing.assert_allclose(run(model, x.numpy()), expected.numpy(), rtol=1e-5, atol=1e-5)


def test_linear_after_linear() -> None:
    block = BlockBuilder("head", vector(3))
    block.linear("mix", 5, activation="relu")
    block.linear("classifier", 2, bias=True)
    blocks = [block.build()]
    weights = onnx_graph.random_weights(blocks, np.random.default_rng(0)) | {
        "head.classifier.bias": np.array([1, -1], np.float32)
    }
    x = np.random.default_rng(1).standard_normal((1, 3), dtype=np.float32)
    hidden = np.maximum(x @ weights["head.mix.weight"].T, 0)
    expected = hidden @ weights["head.classifier.weight"].T + [1, -1]
    np.testing.assert_allclose(run(onnx_graph.build(blocks, weights), x), expected, atol=1e-5)


def test_model_is_valid_and_declares_its_interface() -> None:
    blocks = DIGITS.blocks(DIGITS.smallest)
    weights = onnx_graph.random_weights(blocks, np.random.default_rng(0))
    model = onnx_graph.build(blocks, weights, batch=4, metadata={"arch": "{}"})
    onnx.checker.check_model(model, full_check=True)  # full: shape inference agrees with the declared output
    assert [(o.domain, o.version) for o in model.opset_import] == [("", onnx_graph.OPSET)]
    assert {p.key: p.value for p in model.metadata_props} == {"arch": "{}"}
    size = DIGITS.resolutions[0]
    shapes = {
        v.name: [d.dim_value for d in v.type.tensor_type.shape.dim]
        for v in (*model.graph.input, *model.graph.output)
    }
    assert shapes == {"input": [4, 1, size, size], "logits": [4, 10]}
    assert not any(node.op_type == "BatchNormalization" for node in model.graph.node)


def test_block_with_a_feature_map_as_output() -> None:
    blocks = DIGITS.blocks(DIGITS.largest)[1:2]
    model = onnx_graph.build(blocks, onnx_graph.random_weights(blocks, np.random.default_rng(0)))
    onnx.checker.check_model(model, full_check=True)
    assert [o.name for o in model.graph.output] == [onnx_graph.FEATURES]


def test_dynamic_batch_has_a_name() -> None:
    blocks = DIGITS.blocks(DIGITS.smallest)
    model = onnx_graph.build(blocks, onnx_graph.random_weights(blocks, np.random.default_rng(0)), batch=None)
    for value in (*model.graph.input, *model.graph.output):
        assert value.type.tensor_type.shape.dim[0].dim_param == onnx_graph.BATCH


def test_random_weights_keep_activations_in_range() -> None:
    space = search_spaces.get("cifar")
    blocks = space.blocks(space.largest)
    weights = onnx_graph.random_weights(blocks, np.random.default_rng(0))
    x = np.random.default_rng(1).standard_normal((1, 3, 32, 32), dtype=np.float32)
    logits = run(onnx_graph.build(blocks, weights), x)
    assert 1e-6 < np.abs(logits).max() < 1e6  # far from denormals (1e-38) and from overflow


def test_random_weights_depend_only_on_the_seed() -> None:
    blocks = DIGITS.blocks(DIGITS.smallest)
    a, b = (onnx_graph.random_weights(blocks, np.random.default_rng(7)) for _ in range(2))
    assert a.keys() == b.keys()
    assert all((a[k] == b[k]).all() for k in a)


def test_build_is_fast() -> None:
    blocks = DIGITS.blocks(DIGITS.largest)
    weights = onnx_graph.random_weights(blocks, np.random.default_rng(0))
    times = []
    for _ in range(5):
        start = time.process_time()
        onnx_graph.build(blocks, weights)
        times.append(time.process_time() - start)
    assert min(times) < 0.1  # torch's exporter takes seconds
