"""Files with blocks in different precisions: what ONNX Runtime computes with integers, and the outputs."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from conftest import TINY_YAML
from numpy.typing import NDArray
from test_quantize import TRANSFORMER
from test_resnet import TINY_YAML as RESNET_YAML
from torch import Tensor
from torch_models import MODELS, random_model

import search_spaces
from hw_profiles.measuring.runner.device_description import instruction_set
from hw_profiles.measuring.runner.errors import RunnerError
from hw_profiles.measuring.runner.model import Model
from hw_profiles.run_settings import RunSettings
from nas.devices.asked_precision import layer_precisions
from nas.importing.torch_model.convert import convert as converted
from nas.onnx_backend import borders, onnx_graph
from nas.onnx_backend.calibrate import Ranges, calibrate
from nas.onnx_backend.precision import INT8, MIXED, blocks_in, convert
from nas.torch_backend.functional import FUNCTIONS, Weights
from nas.training.fake_quantization import FakeQuantization
from search_spaces import Arch, Block, Node, Space
from search_spaces.block_precision import in_precision
from search_spaces.operators import Conv2d, Linear
from search_spaces.precision_space import GRAINS, Grain, with_precision
from search_spaces.tensors import Precision, image

SPACES = [
    *("cifar-like", "resnet", "transformer"),
    *(pytest.param(f"traced {name}", marks=pytest.mark.slow) for name in MODELS),
]


def base_space(name: str) -> Space:
    """A small space of a family, or one made from a torch model."""
    if name.startswith("traced "):
        return converted(random_model(name.removeprefix("traced ")), [16]).space
    return search_spaces.parse(
        {"cifar-like": TINY_YAML, "resnet": RESNET_YAML, "transformer": TRANSFORMER}[name]
    )


def chosen_integers(space: Space, arch: Arch) -> dict[str, bool]:
    """Whether each convolution and linear layer is in INT8, by its path."""
    nodes = [node for block in blocks_in(space, arch, MIXED) for node in block.nodes]
    return {n.path: n.output.precision == INT8 for n in nodes if isinstance(n.op, Conv2d | Linear)}


def images(space: Space, arch: Arch, n: int) -> NDArray[np.float32]:
    side = space.image_size(arch)
    shape = (n, space.config.channels, side, side)
    return np.random.default_rng(1).standard_normal(shape, dtype=np.float32)


def models(space: Space, arch: Arch) -> tuple[onnx.ModelProto, onnx.ModelProto, Ranges]:
    """The subnet with random weights in fp32, and with the precisions that it chooses; the ranges."""
    blocks = blocks_in(space, arch, MIXED)
    weights = onnx_graph.random_weights(blocks, np.random.default_rng(0))
    fp32 = onnx_graph.build(blocks, weights, batch=None)
    ranges = calibrate(fp32, [images(space, arch, 64)])
    return fp32, convert(fp32, blocks, instruction_set(), lambda model: ranges), ranges


def emulated(space: Space, arch: Arch, ranges: Ranges, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Outputs of the same subnet with rounding in torch."""
    blocks = blocks_in(space, arch, MIXED)
    arrays = onnx_graph.random_weights(blocks, np.random.default_rng(0))

    def weights(node: Node) -> Weights:
        return {name: torch.from_numpy(arrays[f"{node.path}.{name}"]) for name in node.parameters}

    def compute(node: Node, inputs: Sequence[Tensor]) -> Tensor:
        return FUNCTIONS[type(node.op)](node.op, inputs, weights(node))

    rounding = FakeQuantization(blocks, instruction_set(), ranges)
    return rounding(torch.from_numpy(x), weights, compute).numpy()


def run(model: onnx.ModelProto, x: NDArray[np.float32], *, integers: bool = True) -> NDArray[np.float32]:
    """Outputs in a default session, or in one that computes the nodes between QDQ pairs in floating point."""
    options = onnxruntime.SessionOptions()
    if not integers:
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    outputs: NDArray[np.float32] = session.run(None, {onnx_graph.INPUT: x})[0]
    return outputs


@pytest.mark.parametrize("grain", GRAINS)
@pytest.mark.parametrize("name", SPACES)
def test_each_layer_runs_in_the_precision_that_is_chosen(tmp_path: Path, name: str, grain: Grain) -> None:
    space = with_precision(base_space(name), grain)
    file = tmp_path / "model.onnx"
    for arch in space.decode(space.sample(np.random.default_rng(0), 3)):
        fp32, mixed, ranges = models(space, arch)
        onnx.checker.check_model(mixed, full_check=True)
        assert_converted_once(mixed)
        layers, chosen = layer_precisions(mixed), chosen_integers(space, arch)
        asked = {
            layer.names[0].removesuffix(".sums").removesuffix(".product"): layer.integers for layer in layers
        }
        if onnx_graph.LOGITS in asked:
            asked[[*chosen][-1]] = asked.pop(onnx_graph.LOGITS)
        # attention has further products with weights, always in floating point
        assert chosen.items() <= asked.items()
        assert not any(asked[path] for path in asked.keys() - chosen.keys())
        x = images(space, arch, 64)
        file.write_bytes(mixed.SerializeToString())
        model = Model(
            str(file),
            RunSettings().model_dump(),
            {"input": list(x.shape)},
            layers=[layer.model_dump() for layer in layers],
        )
        model.check_placement()
        found, exact, plain = run(mixed, x), run(mixed, x, integers=False), run(fp32, x)
        # Where both round differently, a value moves to the next of the 256 steps of its range. Behind
        # dynamic ranges that changes all values, as a change of the images by a millionth does.
        moved = np.linalg.norm(run(mixed, x * np.float32(1 + 1e-6), integers=False) - exact)
        assert np.linalg.norm(found - exact) < 0.01 * np.linalg.norm(exact) + 2 * moved
        assert np.linalg.norm(found - plain) < 0.1 * np.linalg.norm(plain)
        in_torch = emulated(space, arch, ranges, x)
        assert np.linalg.norm(in_torch - exact) < 0.005 * np.linalg.norm(exact) + 2 * moved


def assert_converted_once(model: onnx.ModelProto) -> None:
    """Each activation has one DequantizeLinear node, which one node in floating point reads."""
    constants = {constant.name for constant in model.graph.initializer}
    nodes = [node for node in model.graph.node if node.op_type == "DequantizeLinear"]
    nodes = [node for node in nodes if node.input[0] not in constants]
    assert len({node.input[0] for node in nodes}) == len(nodes)
    for node in nodes:
        if node.output[0].endswith("_border"):
            assert sum(reader.input[:].count(node.output[0]) for reader in model.graph.node) == 1


@pytest.mark.parametrize("middle", ["fp32", "int8"])
def test_single_convolution_between_int8_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, middle: Precision
) -> None:
    spec = image(8, 6)
    conv = Conv2d(8, (3, 3), padding=(1, 1, 1, 1))
    plain = [Block(name, (spec,), (Node(conv, "conv", name, (-1,), (spec,)),), (0,)) for name in "abc"]
    precisions: tuple[Precision, ...] = ("int8", middle, "int8")
    pairs = zip(plain, precisions, ("int8", *precisions), strict=False)
    blocks = [in_precision(block, own, before) for block, own, before in pairs]
    fp32 = onnx_graph.build(blocks, onnx_graph.random_weights(blocks, np.random.default_rng(0)))
    x = np.random.default_rng(1).standard_normal((1, 8, 6, 6), dtype=np.float32)

    def check() -> float:
        mixed = convert(fp32, blocks, instruction_set(), lambda model: calibrate(model, [x]))
        layers = layer_precisions(mixed)
        assert [layer.integers for layer in layers] == [True, middle == "int8", True]
        (tmp_path / "model.onnx").write_bytes(mixed.SerializeToString())
        file, settings = str(tmp_path / "model.onnx"), RunSettings().model_dump()
        Model(file, settings, layers=[layer.model_dump() for layer in layers]).check_placement()
        return float(np.abs(run(mixed, x) - run(mixed, x, integers=False)).max() / np.abs(x).max())

    assert check() < 0.01
    # without scales per channel at the border, onnxruntime computes the convolution with integers
    monkeypatch.setattr(borders, "_REQUANTIZED", ())
    if middle == "fp32":
        with pytest.raises(RunnerError, match=r"b\.conv must compute with floating-point numbers"):
            check()
    else:
        check()
