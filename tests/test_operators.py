"""All operators: completeness of the tables, equal outputs of elastic, extracted and ONNX ones, and costs."""

import pkgutil
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from importlib import import_module
from typing import get_args

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from counting import macs_with_relative_positions, torch_macs

from hw_profiles.latency_models.roofline import KIND_OF
from nas.onnx_backend import file_size, onnx_graph, quantize
from nas.torch_backend import elastic, static
from nas.torch_backend.folded import FoldedNet
from nas.torch_backend.functional import FUNCTIONS, run_block
from nas.torch_backend.static import StaticNet
from search_spaces import Block, Node
from search_spaces import operators as ops
from search_spaces.building import BlockBuilder
from search_spaces.operators.arithmetic import Function
from search_spaces.tensors import TensorSpec, image, tokens, vector

TABLES: Mapping[str, Mapping[type[ops.Operator], object]] = {
    "torch": FUNCTIONS,
    "ONNX": onnx_graph.NODES,
    "latency terms": KIND_OF,
    "file size": file_size.KINDS,
    "quantisation": quantize.QUANTIZED,
}


def defined_operators() -> set[type[ops.Operator]]:
    """Operators of the package, without base classes."""
    modules = [import_module(f"search_spaces.operators.{m.name}") for m in pkgutil.iter_modules(ops.__path__)]
    classes = {value for module in modules for value in vars(module).values() if isinstance(value, type)}
    return {c for c in classes if issubclass(c, ops.Operator)} - {ops.Operator, ops.Activation, ops.Pool2d}


@pytest.mark.parametrize("name", TABLES)
def test_every_operator_is_in_every_table(name: str) -> None:
    assert set(ops.OPERATORS) == set(TABLES[name]) == defined_operators()


def test_every_operator_with_weights_has_its_modules() -> None:
    weighted = {type(op) for (op, specs), _ in CASES.values() if op.parameters(*specs)}
    assert weighted == set(elastic.MODULES) == set(static.MODULES)


Choice = tuple[ops.Operator, tuple[TensorSpec, ...]]
"""An operator and what it reads."""
CONV = ops.Conv2d(8, (3, 5), (2, 1), (0, 1, 2, 3), (2, 1), bias=True)
GRID = TensorSpec("tokens", 6, (3, 5))
CASES: dict[str, tuple[Choice, Choice]] = {  # the largest choice and a smaller one
    "conv": (
        (CONV, (image(6, 9, 7),)),
        (replace(CONV, channels=5, kernel=(1, 3)), (image(4, 9, 7),)),
    ),
    "depthwise": (
        (ops.Conv2d.same(6, 5, groups=6), (image(6, 7),)),
        (ops.Conv2d.same(4, 3, groups=4), (image(4, 7),)),
    ),
    "linear": ((ops.Linear(8, bias=True), (vector(6),)), (ops.Linear(5, bias=True), (vector(4),))),
    "linear of tokens": (
        (ops.Linear(8, bias=True), (tokens(5, 6),)),
        (ops.Linear(5, bias=True), (tokens(5, 4),)),
    ),
    "linear in parts": (
        (ops.Linear(12, True, parts=3), (tokens(5, 6),)),
        (ops.Linear(6, True, parts=3), (tokens(5, 4),)),
    ),
    "linear with a flat bias": (
        (ops.Linear(12, True, parts=3, flat_bias=True), (tokens(5, 6),)),
        (ops.Linear(6, True, parts=3, flat_bias=True), (tokens(5, 4),)),
    ),
    "batch_norm": ((ops.BatchNorm(), (image(6, 3),)), (ops.BatchNorm(), (image(4, 3),))),
    "layer_norm": ((ops.LayerNorm(1e-6), (tokens(5, 6),)), (ops.LayerNorm(1e-6), (tokens(5, 4),))),
    "layer_norm over tokens": (
        (ops.LayerNorm(over_tokens=True), (tokens(5, 6),)),
        (ops.LayerNorm(over_tokens=True), (tokens(3, 4),)),
    ),
    "batch_norm of a vector": ((ops.BatchNorm(), (vector(6),)), (ops.BatchNorm(), (vector(4),))),
    "group_norm": (
        (ops.GroupNorm(3, 1e-3), (image(6, 3, 5),)),
        (ops.GroupNorm(2, 1e-3), (image(4, 3, 5),)),
    ),
    "prelu": ((ops.PRelu(), (image(6, 3),)), (ops.PRelu(), (image(4, 3),))),
    "prelu of a vector": ((ops.PRelu(), (vector(6),)), (ops.PRelu(), (vector(4),))),
    **{
        function: (
            (ops.Arithmetic(function, 0.3), (tokens(5, 6),)),
            (ops.Arithmetic(function, 3), (vector(4),)),
        )
        for function in get_args(Function)
    },
    **{
        f"{function} by channel": (
            (ops.ChannelArithmetic(function, learned, of_image=True), (image(6, 3),)),
            (ops.ChannelArithmetic(function, learned, of_image=True), (image(4, 3),)),
        )
        for function in get_args(Function)
        for learned in (function == "add",)
    },
    "constant of tokens": (
        (ops.ChannelArithmetic("add"), (tokens(5, 6),)),
        (ops.ChannelArithmetic("add"), (tokens(5, 4),)),
    ),
    "subtract": ((ops.Subtract(), (image(6, 3), image(6, 3))), (ops.Subtract(), (vector(4), vector(4)))),
    "to_pixel": ((ops.ToPixel(), (vector(6),)), (ops.ToPixel(), (vector(4),))),
    "global_max_pool": ((ops.GlobalMaxPool(), (image(6, 3, 5),)), (ops.GlobalMaxPool(), (image(4, 3, 5),))),
    "concat": ((ops.Concat(), (image(6, 3), image(2, 3))), (ops.Concat(), (image(4, 3), image(2, 3)))),
    "concat of tokens": (
        (ops.Concat(), (tokens(5, 6), tokens(5, 2))),
        (ops.Concat(), (tokens(5, 4), tokens(5, 2))),
    ),
    "slice": ((ops.Slice(1, 4), (image(6, 3),)), (ops.Slice(2, 4), (image(4, 3),))),
    "slice of tokens": ((ops.Slice(1, 4), (tokens(5, 6),)), (ops.Slice(2, 4), (tokens(5, 4),))),
    "slice of groups": ((ops.Slice(1, 3, 2), (image(6, 3),)), (ops.Slice(0, 1, 2), (image(4, 3),))),
    "slice of groups of tokens": (
        (ops.Slice(1, 3, 2), (tokens(5, 6),)),
        (ops.Slice(0, 1, 2), (tokens(5, 4),)),
    ),
    "add": ((ops.Add(), (image(6, 3), image(6, 3))), (ops.Add(), (image(4, 3), image(4, 3)))),
    "multiply": ((ops.Multiply(), (image(6, 3), image(6, 1))), (ops.Multiply(), (image(4, 3), image(4, 1)))),
    "convert": ((ops.Convert("int8"), (image(6, 2),)), (ops.Convert("int8"), (image(4, 2),))),
    "flatten": ((ops.Flatten(), (image(6, 2),)), (ops.Flatten(), (image(4, 2),))),
    "global_avg_pool": ((ops.GlobalAvgPool(), (image(6, 3, 5),)), (ops.GlobalAvgPool(), (image(4, 3, 5),))),
    "max_pool": ((ops.MaxPool2d(3, 2), (image(6, 8, 7),)), (ops.MaxPool2d(2, 2), (image(4, 5),))),
    "max_pool up to the edge": (
        (ops.MaxPool2d(3, 2, ceil_mode=True), (image(6, 8, 7),)),
        (ops.MaxPool2d(3, 2, 1, ceil_mode=True), (image(4, 6, 7),)),
    ),
    "avg_pool": ((ops.AvgPool2d(3, 1, 1), (image(6, 5),)), (ops.AvgPool2d(2, 2), (image(4, 5),))),
    "adaptive_avg_pool": (
        (ops.AdaptiveAvgPool2d((3, 2)), (image(6, 3, 8),)),
        (ops.AdaptiveAvgPool2d(), (image(4, 3, 5),)),
    ),
    "adaptive_avg_pool of equal size": (
        (ops.AdaptiveAvgPool2d((3, 2)), (image(6, 3, 2),)),
        (ops.AdaptiveAvgPool2d((3, 2)), (image(4, 3, 2),)),
    ),
    "channel_shuffle": ((ops.ChannelShuffle(3), (image(6, 3, 5),)), (ops.ChannelShuffle(2), (image(4, 3),))),
    "channels_last": ((ops.ChannelsLast(), (image(6, 3, 5),)), (ops.ChannelsLast(), (image(4, 3),))),
    "channels_first": ((ops.ChannelsFirst(), (GRID,)), (ops.ChannelsFirst(), (replace(GRID, channels=4),))),
    "linear of a grid of tokens": ((ops.Linear(8, True), (GRID,)), (ops.Linear(4, True), (GRID,))),
    "layer_norm of a grid of tokens": (
        (ops.LayerNorm(), (GRID,)),
        (ops.LayerNorm(), (replace(GRID, channels=4),)),
    ),
    "leaky_relu 0.2": ((ops.LeakyRelu(0.2), (image(6, 3),)), (ops.LeakyRelu(0.2), (image(4, 3),))),
    "scale of an image": (
        (ops.Scale(of_image=True), (image(6, 3, 5),)),
        (ops.Scale(of_image=True), (image(4, 3),)),
    ),
    "scale": ((ops.Scale(), (tokens(5, 6),)), (ops.Scale(), (tokens(5, 4),))),
    "scale with options": (
        (ops.Scale(option=(2, 1), multiplier=0.5), (tokens(5, 6),)),
        (ops.Scale(option=(0, 0), multiplier=2), (tokens(5, 4),)),
    ),
    "to_image": (
        (ops.TokensToImage((3, 5)), (tokens(15, 6),)),
        (ops.TokensToImage((2, 3)), (tokens(6, 4),)),
    ),
    "to_tokens": ((ops.ImageToTokens(), (image(6, 3, 5),)), (ops.ImageToTokens(), (image(4, 3),))),
    "prepend": ((ops.PrependTokens(2), (tokens(5, 6),)), (ops.PrependTokens(1), (tokens(4, 4),))),
    "add_positions": (
        (ops.AddPositions((4, 5), 2), (tokens(22, 6),)),
        (ops.AddPositions((2, 3), 1), (tokens(7, 4),)),
    ),
    "patch positions": (
        (ops.AddPositions((4, 4)), (tokens(16, 6),)),
        (ops.AddPositions((2, 2)), (tokens(4, 4),)),
    ),
    "attention": ((ops.Attention(3), (tokens(5, 18),)), (ops.Attention(2), (tokens(4, 12),))),
    "attention with relative tables": (
        (ops.Attention(3, ops.RelativeTables((3, 4), 1, 2)), (tokens(13, 18),)),
        (ops.Attention(2, ops.RelativeTables((2, 2), 1, 2)), (tokens(5, 12),)),
    ),
    "attention with relative bias": (
        (ops.Attention(3, ops.RelativeBias((3, 4))), (tokens(12, 18),)),
        (ops.Attention(2, ops.RelativeBias((2, 3))), (tokens(6, 12),)),
    ),
    "attention to values of another width": (
        (ops.Attention(3), (tokens(5, 6), tokens(5, 6), tokens(5, 12))),
        (ops.Attention(2), (tokens(4, 4), tokens(4, 4), tokens(4, 2))),
    ),
    "attention with talking heads": (
        (ops.Attention(3, ops.RelativeBias((2, 3)), True), (tokens(6, 6), tokens(6, 6), tokens(6, 12))),
        (ops.Attention(2, ops.RelativeBias((2, 2)), True), (tokens(4, 4), tokens(4, 4), tokens(4, 6))),
    ),
    "relative tables with talking heads": (
        (ops.Attention(3, ops.RelativeTables((2, 2), 1, 2), True), (tokens(5, 18),)),
        (ops.Attention(2, ops.RelativeTables((1, 2), 1, 2), True), (tokens(3, 12),)),
    ),
    "window_attention": (
        (ops.WindowAttention(3, (2, 3), (1, 1)), (replace(GRID, channels=18, size=(4, 6)),)),
        (ops.WindowAttention(2, (2, 3), (1, 1)), (replace(GRID, channels=12, size=(2, 6)),)),
    ),
    "window_attention of normalized vectors": (
        (ops.WindowAttention(3, (2, 3), (1, 1), True), (replace(GRID, channels=18, size=(4, 6)),)),
        (ops.WindowAttention(2, (2, 3), (1, 1), True), (replace(GRID, channels=12, size=(2, 6)),)),
    ),
    "merge_tokens": ((ops.MergeTokens(), (replace(GRID, size=(4, 6)),)),) * 2,
    "take_token": ((ops.TakeToken(1), (tokens(5, 6),)), (ops.TakeToken(1), (tokens(3, 4),))),
    "mean_tokens": ((ops.MeanTokens(1), (tokens(5, 6),)), (ops.MeanTokens(1), (tokens(3, 4),))),
    "mean of all tokens": ((ops.MeanTokens(), (tokens(5, 6),)), (ops.MeanTokens(), (tokens(3, 4),))),
    **{
        name: ((activation, (tokens(5, 6),)), (activation, (image(4, 3),)))
        for name, activation in ops.ACTIVATIONS.items()
    },
}


def block_of(op: ops.Operator, specs: tuple[TensorSpec, ...]) -> Block:
    node = Node(op, "op", "b", tuple(-1 - i for i in range(len(specs))), specs)
    return Block("b", specs, (node,), (0,))


@pytest.mark.parametrize("name", CASES)
def test_outputs_of_elastic_extracted_and_onnx_operators_are_equal(name: str) -> None:
    blocks = [block_of(*choice) for choice in CASES[name]]
    generator = torch.Generator().manual_seed(0)
    modules = elastic.elastic_operators(blocks)
    for module in modules.values():
        module.reset(generator)
        with torch.no_grad():
            for tensor in (*module.parameters(), *module.buffers()):
                tensor.uniform_(0.5, 1.5, generator=generator)
    for block in blocks:
        # the activations are not differentiable at -3, 3 and 6
        inputs = [4 * torch.randn(2, *spec.shape, generator=generator) for spec in block.inputs]
        node = block.nodes[0]
        with torch.no_grad():
            elastic_output = run_block(
                block, inputs, lambda node, tensors: modules[node.path].eval()(node, tensors)
            )[0]
        assert elastic_output.shape == (2, *node.output.shape)
        net = StaticNet([block]).eval()
        sliced = modules[node.path].sliced(node) if node.parameters else {}
        state = {f"{node.path}.{key}": tensor for key, tensor in sliced.items()}
        missing = net.load_state_dict(state, strict=False).missing_keys
        assert all(key.endswith("num_batches_tracked") for key in missing)
        with torch.no_grad():
            extracted = run_block(block, inputs, net._compute)[0]
            torch.testing.assert_close(extracted, elastic_output, rtol=1e-6, atol=1e-6)
        macs = torch_macs(partial(run_block, block, inputs, net._compute))
        assert macs == 2 * macs_with_relative_positions([node])  # 2 images
        assert sum(parameter.numel() for parameter in net.parameters()) == node.params
        model = onnx_graph.build([block], net.weights(), batch=2)
        onnx.checker.check_model(model, full_check=True)
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        feeds = {value.name: x.numpy() for value, x in zip(session.get_inputs(), inputs, strict=True)}
        np.testing.assert_allclose(session.run(None, feeds)[0], elastic_output, rtol=1e-5, atol=1e-5)


def test_parts_of_an_axis_are_gathered() -> None:
    weight = torch.arange(24.0).reshape(12, 2)
    taken = elastic.take(weight, ops.Parameter((ops.Groups(3, 2), ops.Prefix(1))))
    assert taken.flatten().tolist() == [0, 2, 8, 10, 16, 18]  # rows 0 1, 4 5, 8 9 of the first column
    view = elastic.take(weight, ops.Parameter((ops.Prefix(2), ops.Centre(2))))
    assert view.data_ptr() == weight.data_ptr()  # a prefix is a view
    segments = ops.Parameter((ops.Segments(((1, 2), (11, 12))), ops.Prefix(2)))
    assert elastic.take(weight, segments).tolist() == [[2, 3], [22, 23]]


@pytest.mark.parametrize("view", [ops.ImageToTokens(), ops.Flatten()])
def test_operators_in_place_do_not_overwrite_what_a_view_shares(view: ops.Operator) -> None:
    block = BlockBuilder("b", image(3, 4))
    convolved = block.add(ops.Conv2d(3), "conv")
    block.add(view, "view")
    block.add(ops.Relu(), "act")  # must not change the output of the convolution, which is read again
    positive = block.add(ops.MeanTokens() if isinstance(view, ops.ImageToTokens) else ops.Slice(0, 3), "part")
    block.add(ops.GlobalAvgPool(), "pool", convolved)
    flat = block.add(ops.Flatten(), "flat")
    block.combine(ops.Add(), "sum", flat, positive)
    net = StaticNet([block.build()]).eval()
    x = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(FoldedNet(net)(x), net(x))


def test_norm_can_precede_its_layer() -> None:
    # pre-norm: its batch norm cannot be folded into a layer before it
    block = BlockBuilder("b", image(3, 4))
    block.add(ops.BatchNorm(), "norm")
    block.add(ops.Relu(), "act")
    block.add(ops.Conv2d(5), "conv")
    net = StaticNet([block.build()]).eval()
    with torch.no_grad():
        for name, tensor in net.state_dict().items():
            if not name.endswith("tracked"):
                tensor.uniform_(0.5, 1.5)
    x = torch.randn(1, 3, 4, 4)
    session = onnxruntime.InferenceSession(
        onnx_graph.serialize(net.blocks, net.weights()), providers=["CPUExecutionProvider"]
    )
    expected = net(x).detach().numpy()
    np.testing.assert_allclose(session.run(None, {onnx_graph.INPUT: x.numpy()})[0], expected, atol=1e-5)
