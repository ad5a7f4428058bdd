"""A subnet as a static network of standard torch modules."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nas.torch_backend.functional import FUNCTIONS, run_network
from search_spaces import Block, Node
from search_spaces import operators as ops


def _conv(op: ops.Conv2d, node: Node) -> nn.Module:
    """A module with the padding of the top and left sides; `StaticNet` handles asymmetric padding."""
    channels = node.specs[0].channels
    return nn.Conv2d(
        channels, op.channels, op.kernel, op.stride, op.padding[:2], op.dilation, op.groups, op.bias
    )


class Tables(nn.Module):
    """The parameters of an operator that has no module in torch.

    Args:
        op: the operator.
        node: the node.
    """

    def __init__(self, op: ops.Operator, node: Node) -> None:
        super().__init__()
        self.op = op
        for name, parameter in node.parameters.items():
            if parameter.learned:
                self.register_parameter(name, nn.Parameter(torch.empty(parameter.shape)))
            else:
                self.register_buffer(name, torch.empty(parameter.shape))

    def forward(self, *inputs: Tensor) -> Tensor:
        """Compute the operator, shapes (n, *spec.shape)."""
        tensors = (*self.named_parameters(recurse=False), *self.named_buffers(recurse=False))
        return FUNCTIONS[type(self.op)](self.op, inputs, dict(tensors))


def _layer_norm(op: ops.LayerNorm, node: Node) -> nn.Module:
    return Tables(op, node) if op.over_tokens else nn.LayerNorm(node.specs[0].channels, op.eps)


def _batch_norm(op: ops.BatchNorm, node: Node) -> nn.Module:
    module = nn.BatchNorm1d if node.specs[0].layout == "vector" else nn.BatchNorm2d
    return module(node.specs[0].channels, op.eps)


MODULES: Mapping[type[ops.Operator], Callable[[Any, Node], nn.Module]] = {
    ops.Conv2d: _conv,
    ops.Linear: lambda op, node: nn.Linear(node.specs[0].channels, op.channels, bias=op.bias),
    ops.BatchNorm: _batch_norm,
    ops.LayerNorm: _layer_norm,
    ops.GroupNorm: lambda op, node: nn.GroupNorm(op.groups, node.specs[0].channels, op.eps),
    ops.PRelu: lambda op, node: nn.PReLU(node.specs[0].channels),
    ops.ChannelArithmetic: Tables,
    ops.Scale: Tables,
    ops.PrependTokens: Tables,
    ops.AddPositions: Tables,
    ops.Attention: Tables,
    ops.WindowAttention: Tables,
}
"""Factory of the torch module of every operator with weights."""


class StaticNet(nn.Module):
    """A network with the given blocks.

    Weights are named after the nodes, such as `stages.0.blocks.1.depthwise.weight` and
    `stages.0.blocks.1.depthwise.norm.running_mean`.

    Args:
        blocks: the blocks in order, as returned by `Space.blocks`.
        fast: use the fast implementation in eval mode too, see `run_network`; outputs may then differ from
            those of the supernet by rounding.
    """

    def __init__(self, blocks: Sequence[Block], *, fast: bool = False) -> None:
        super().__init__()
        self.fast = fast
        self.blocks = tuple(blocks)
        for node in (node for block in blocks for node in block.nodes if node.parameters):
            put_module(self, node.path, MODULES[type(node.op)](node.op, node))

    def forward(self, x: Tensor) -> Tensor:
        """Images (n, channels, height, width) -> outputs (n, n_outputs)."""
        return run_network(self.blocks, x, self._compute, fast=self.fast or self.training)

    def _compute(self, node: Node, inputs: Sequence[Tensor]) -> Tensor:
        module, op = module_at(self, node.path), node.op
        if isinstance(op, ops.Conv2d) and op.padding[:2] != op.padding[2:]:
            return FUNCTIONS[ops.Conv2d](op, inputs, dict(module.named_parameters(recurse=False)))
        return cast(Tensor, module(*inputs))

    def weights(self) -> dict[str, NDArray[np.float32]]:
        """All weights and running statistics by name, as `nas.onnx_backend.onnx_graph.build` takes them."""
        state = cast(Mapping[str, Tensor], self.state_dict())
        return {
            name: tensor.detach().cpu().numpy()
            for name, tensor in state.items()
            if not name.endswith("num_batches_tracked")
        }


def put_module(root: nn.Module, path: str, module: nn.Module) -> None:
    """Register `module` in `root` under a dotted path; missing parents are created."""
    *parents, name = path.split(".")
    for parent in parents:
        root = cast(nn.Module, root._modules.setdefault(parent, nn.Module()))
    root._modules[name] = module  # `add_module` refuses the names of other attributes, such as `blocks`


def module_at(root: nn.Module, path: str) -> nn.Module:
    """The module that `put_module` registered in `root` under a dotted path."""
    for name in path.split("."):
        root = cast(nn.Module, root._modules[name])
    return root
