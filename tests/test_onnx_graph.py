import time
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import search_spaces
from nas.network.functional import ACTIVATIONS, run_block
from nas.network.static import StaticNet
from nas.onnx_files import onnx_file, onnx_graph
from search_spaces import BLOCK_INPUT, LayerSpec
from search_spaces.layers import split_blocks

DIGITS = search_spaces.get("digits")


def run(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {onnx_graph.INPUT: x})[0])


def torch_net(layers: tuple[LayerSpec, ...], seed: int) -> StaticNet:
    """A network whose batch norms differ from the identity, as after training."""
    torch.manual_seed(seed)
    net = StaticNet(layers).eval()
    for name, tensor in net.state_dict().items():
        if name.endswith(("norm.weight", "running_var")):
            torch.nn.init.uniform_(tensor, 0.5, 2.0)
        elif name.endswith(("norm.bias", "running_mean")):
            torch.nn.init.normal_(tensor, std=0.3)
    return net


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31), name=st.sampled_from(["digits", "cifar"]), n=st.integers(1, 3))
def test_outputs_equal_torch(seed: int, name: str, n: int) -> None:
    space = search_spaces.get(name)
    rng = np.random.default_rng(seed)
    layers = space.layers(space.decode(space.sample(rng, 1))[0])
    net = torch_net(layers, seed)
    x = rng.standard_normal((n, layers[0].c_in, layers[0].size_in, layers[0].size_in), dtype=np.float32)
    expected = net(torch.from_numpy(x)).detach().numpy()
    for batch in (n, None):
        found = run(onnx_graph.build(layers, net.weights(), batch=batch), x)
        np.testing.assert_allclose(found, expected, atol=1e-5 * max(1.0, np.abs(expected).max()))


def test_blocks_chain_to_the_network() -> None:
    layers = DIGITS.layers(DIGITS.largest)
    weights = torch_net(layers, 0).weights()
    x = np.random.default_rng(0).standard_normal(
        (1, 1, layers[0].size_in, layers[0].size_in), dtype=np.float32
    )
    whole = run(onnx_graph.build(layers, weights), x)
    for block in split_blocks(layers):
        x = run(onnx_graph.build(block, weights), x)
    np.testing.assert_allclose(x, whole, atol=1e-4)


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_every_activation(activation: str) -> None:
    layer = LayerSpec("conv", "conv", "b", (BLOCK_INPUT,), 2, 4, 5, 5, 3, activation=activation)  # type: ignore[arg-type]
    weights = onnx_graph.random_weights([layer], np.random.default_rng(0))
    x = 8 * np.random.default_rng(1).standard_normal(
        (1, 2, 5, 5), dtype=np.float32
    )  # beyond the knees at 3, 6
    linear = torch.nn.functional.conv2d(
        torch.from_numpy(x), torch.from_numpy(weights["b.conv.weight"]), padding=1
    )
    np.testing.assert_allclose(
        run(onnx_graph.build([layer], weights), x), ACTIVATIONS[activation](linear).numpy(), atol=1e-4
    )


def test_the_file_is_what_protobuf_would_write() -> None:
    layers = search_spaces.get("attentivenas").layers(search_spaces.get("attentivenas").smallest)
    weights = onnx_graph.random_weights(layers, np.random.default_rng(0))
    content = onnx_graph.serialize(layers, weights, metadata={"arch": "{}"})
    model = onnx.load_from_string(content)
    assert model.ByteSize() == len(content)  # nothing is written twice, nothing is unknown to protobuf
    arrays = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    np.testing.assert_array_equal(arrays["head.classifier.weight"], weights["head.classifier.weight"])
    assert arrays["stem.resize.size"].tolist() == [192, 192]


@pytest.mark.parametrize("shape", [(), (0,), (200,), (3, 5, 7)])  # 200 floats: a length of two bytes
@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_constants_of_any_shape(shape: tuple[int, ...], dtype: type) -> None:
    values: onnx_file.Constant = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    turned = values.T  # not contiguous
    graph = onnx.GraphProto(name="constants")
    content = onnx_file.serialize(onnx.ModelProto(), graph, {"a": values, "b": turned})
    for tensor, expected in zip(
        onnx.load_from_string(content).graph.initializer, (values, turned), strict=True
    ):
        found = onnx.numpy_helper.to_array(tensor)
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, expected)


POOL = LayerSpec("avg_pool", "pool", "b", (BLOCK_INPUT,), 2, 2, 8, 4, kernel=2, stride=2)


@pytest.mark.parametrize(
    ("layer", "reference"),
    [
        (POOL, torch.nn.AvgPool2d(2)),
        (replace(POOL, size_in=7, padding=1), torch.nn.AvgPool2d(2, padding=1)),
        (replace(POOL, size_in=7), torch.nn.AvgPool2d(2, ceil_mode=True)),
        (replace(POOL, op="max_pool", kernel=3, padding=1), torch.nn.MaxPool2d(3, 2, 1)),
        (replace(POOL, op="max_pool", size_in=7, kernel=3, padding=1), torch.nn.MaxPool2d(3, 2, 1)),
        (replace(POOL, op="resize", size_out=8), torch.nn.Identity()),
        (replace(POOL, op="resize", size_out=11), torch.nn.Upsample(size=11, mode="bicubic")),
        (replace(POOL, op="resize", size_out=5), torch.nn.Upsample(size=5, mode="bicubic")),
    ],
)
def test_pools_and_resizing(layer: LayerSpec, reference: torch.nn.Module) -> None:
    x = torch.randn(3, 2, layer.size_in, layer.size_in, generator=torch.Generator().manual_seed(0)) + 1
    expected = reference(x)
    torch.testing.assert_close(run_block((layer,), x, lambda layer, x: x), expected)
    for batch in (3, None):
        model = onnx_graph.build([layer], {}, batch=batch)
        onnx.checker.check_model(model, full_check=True)
        np.testing.assert_allclose(run(model, x.numpy()), expected.numpy(), rtol=1e-5, atol=1e-5)


def test_linear_after_linear() -> None:
    layers = [
        LayerSpec("linear", "mix", "head", (BLOCK_INPUT,), 3, 5, 1, 1, activation="relu"),
        LayerSpec("linear", "classifier", "head", (0,), 5, 2, 1, 1, bias=True),
    ]
    weights = onnx_graph.random_weights(layers, np.random.default_rng(0)) | {
        "head.classifier.bias": np.array([1, -1], np.float32)
    }
    x = np.random.default_rng(1).standard_normal((1, 3, 1, 1), dtype=np.float32)
    hidden = np.maximum(x[:, :, 0, 0] @ weights["head.mix.weight"].T, 0)
    expected = hidden @ weights["head.classifier.weight"].T + [1, -1]
    np.testing.assert_allclose(run(onnx_graph.build(layers, weights), x), expected, atol=1e-5)


def test_model_is_valid_and_describes_itself() -> None:
    layers = DIGITS.layers(DIGITS.smallest)
    weights = onnx_graph.random_weights(layers, np.random.default_rng(0))
    model = onnx_graph.build(layers, weights, batch=4, metadata={"arch": "{}"})
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
    block = DIGITS.blocks(DIGITS.largest)[1]
    model = onnx_graph.build(block, onnx_graph.random_weights(block, np.random.default_rng(0)))
    onnx.checker.check_model(model, full_check=True)
    assert [o.name for o in model.graph.output] == [onnx_graph.FEATURES]


def test_dynamic_batch_has_a_name() -> None:
    layers = DIGITS.layers(DIGITS.smallest)
    model = onnx_graph.build(layers, onnx_graph.random_weights(layers, np.random.default_rng(0)), batch=None)
    for value in (*model.graph.input, *model.graph.output):
        assert value.type.tensor_type.shape.dim[0].dim_param == onnx_graph.BATCH


def test_random_weights_keep_activations_in_range() -> None:
    space = search_spaces.get("cifar")
    layers = space.layers(space.largest)
    weights = onnx_graph.random_weights(layers, np.random.default_rng(0))
    x = np.random.default_rng(1).standard_normal((1, 3, 32, 32), dtype=np.float32)
    logits = run(onnx_graph.build(layers, weights), x)
    assert 1e-6 < np.abs(logits).max() < 1e6  # far from denormals (1e-38) and from overflow


def test_random_weights_repeat_with_the_seed() -> None:
    layers = DIGITS.layers(DIGITS.smallest)
    a, b = (onnx_graph.random_weights(layers, np.random.default_rng(7)) for _ in range(2))
    assert a.keys() == b.keys()
    assert all((a[k] == b[k]).all() for k in a)


def test_build_is_fast() -> None:
    layers = DIGITS.layers(DIGITS.largest)
    weights = onnx_graph.random_weights(layers, np.random.default_rng(0))
    times = []
    for _ in range(5):
        start = time.process_time()
        onnx_graph.build(layers, weights)
        times.append(time.process_time() - start)
    assert min(times) < 0.1  # torch's exporter takes seconds
