"""A run that fell back to another provider or precision is an error, not a latency."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import search_spaces
from hw_profiles.measuring.runner.device_description import instruction_set
from hw_profiles.measuring.runner.errors import RunnerError
from hw_profiles.measuring.runner.model import Model
from hw_profiles.measuring.runner.placement import check_node_placement
from hw_profiles.measuring.runner.providers import CPU
from hw_profiles.run_settings import RunSettings
from nas.onnx_backend import onnx_graph
from nas.onnx_backend.precision import convert, uniform_blocks
from search_spaces.tensors import Precision

GPU = "CUDAExecutionProvider"


def node(op: str, provider: str, read: str = "float") -> dict[str, Any]:
    """As an ONNX Runtime profile tells of a node."""
    return {"op_name": op, "provider": provider, "input_type_shape": [{read: [1, 8, 4, 4]}]}


def test_all_nodes_there() -> None:
    check_node_placement([node("Conv", GPU), node("MemcpyToHost", CPU)], GPU, "fp32")


@pytest.mark.parametrize("fallback", [False, True])
def test_no_node_there(fallback: bool) -> None:
    nodes = [node("Conv", CPU), node("Relu", CPU)]
    with pytest.raises(RunnerError, match=r"ran no node of the model: .* fell back silently"):
        check_node_placement(nodes, GPU, "fp32", fallback)


def test_some_nodes_elsewhere() -> None:
    nodes = [node("Conv", GPU), node("HardSwish", CPU), node("HardSwish", CPU), node("MemcpyToHost", CPU)]
    with pytest.raises(RunnerError, match=r"left 2 of 4 nodes to the CPU \(HardSwish\); .* --fallback"):
        check_node_placement(nodes, GPU, "fp32")
    check_node_placement(nodes, GPU, "fp32", fallback=True)


@pytest.mark.parametrize(
    ("precision", "read", "right"),
    [("fp16", "float16", True), ("fp16", "float", False), ("int8", "uint8", True), ("int8", "float", False)],
)
def test_precision_that_convolutions_compute_in(precision: str, read: str, right: bool) -> None:
    nodes = [node("QLinearConv", GPU, read), node("HardSigmoid", GPU)]  # activations may stay float
    if right:
        check_node_placement(nodes, GPU, precision)
        return
    message = (
        f"{GPU} does not compute in {precision}: 1 of 1 convolutions and matrix products computed in float"
    )
    with pytest.raises(RunnerError, match=message):
        check_node_placement(nodes, GPU, precision)


def test_provider_that_fuses_the_whole_graph() -> None:
    check_node_placement([node("OpenVINOExecutionProvider_0", "OpenVINO")], "OpenVINO", "int8")


def test_products_of_tokens_in_int8_models() -> None:
    attention = {"op_name": "FusedMatMul", "provider": CPU, "input_type_shape": [{"float": [1, 3, 9, 8]}] * 2}
    tokens = [{"float": [1, 9, 8]}]
    dynamic = {"op_name": "DynamicQuantizeMatMul", "provider": CPU, "input_type_shape": tokens}
    check_node_placement([attention, dynamic], CPU, "int8")
    with pytest.raises(RunnerError, match="2 of 2 convolutions and matrix products computed in float"):
        check_node_placement([attention, dynamic], CPU, "fp16")
    dequantized = {"op_name": "MatMul", "provider": CPU, "input_type_shape": tokens}
    with pytest.raises(RunnerError, match="1 of 2 convolutions and matrix products computed in float"):
        check_node_placement([attention, dequantized], CPU, "int8")


def model(folder: Path, precision: Precision, int8_for: str | None = None, name: str = "cifar") -> Model:
    space = search_spaces.get(name)
    blocks = space.blocks(space.smallest)
    graph = onnx_graph.build(blocks, onnx_graph.random_weights(blocks, np.random.default_rng(0)))
    path = folder / "model.onnx"
    path.write_bytes(convert(graph, uniform_blocks(blocks, precision), int8_for).SerializeToString())
    return Model(str(path), RunSettings(precision=precision).model_dump())


@pytest.mark.parametrize("name", ["cifar", "vit-digits"])
def test_int8_for_this_processor_runs_in_integers(tmp_path: Path, name: str) -> None:
    model(tmp_path, "int8", instruction_set(), name).check_placement()


@pytest.mark.skipif(not instruction_set().startswith("x86"), reason="the wrong choice for x86")
def test_signed_activations_on_x86_are_found_out(tmp_path: Path) -> None:
    with pytest.raises(RunnerError, match=r"does not compute in int8: .* computed in float"):
        model(tmp_path, "int8", "arm").check_placement()


@pytest.mark.skipif(not instruction_set().startswith("x86"), reason="ARM has kernels for fp16")
def test_fp16_that_is_computed_in_fp32_is_found_out(tmp_path: Path) -> None:
    with pytest.raises(
        RunnerError, match=r"CPUExecutionProvider does not compute in fp16: .* computed in float"
    ):
        model(tmp_path, "fp16").check_placement()
