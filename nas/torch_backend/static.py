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


def _conv(op: ops.Conv2d, node: Node, device: torch.device | None) -> nn.Module:
    """A convolution module with the padding of the top and left sides; `StaticNet` handles asymmetric
    padding."""
    return nn.Conv2d(
        node.specs[0].channels,
        op.channels,
        op.kernel,
        op.stride,
        op.padding[:2],
        op.dilation,
        op.groups,
        op.bias,
        device=device,
    )


class Tables(nn.Module):
    """The parameters of an operator that has no module in torch.

    Args:
        op: the operator.
        node: the node.
        device: device of the parameters.
    """

    def __init__(self, op: ops.Operator, node: Node, device: torch.device | None) -> None:
        super().__init__()
        self.op = op
        for name, parameter in node.parameters.items():
            tensor = torch.empty(parameter.shape, device=device)
            if parameter.learned:
                self.register_parameter(name, nn.Parameter(tensor))
            else:
                self.register_buffer(name, tensor)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Compute the operator, shapes (n, *spec.shape)."""
        tensors = (*self.named_parameters(recurse=False), *self.named_buffers(recurse=False))
        return FUNCTIONS[type(self.op)](self.op, inputs, dict(tensors))


def _linear(op: ops.Linear, node: Node, device: torch.device | None) -> nn.Module:
    return nn.Linear(node.specs[0].channels, op.channels, bias=op.bias, device=device)


def _batch_norm(op: ops.BatchNorm, node: Node, device: torch.device | None) -> nn.Module:
    module = nn.BatchNorm1d if node.specs[0].layout == "vector" else nn.BatchNorm2d
    return module(node.specs[0].channels, op.eps, device=device)


def _layer_norm(op: ops.LayerNorm, node: Node, device: torch.device | None) -> nn.Module:
    if op.over_tokens:
        return Tables(op, node, device)
    return nn.LayerNorm(node.specs[0].channels, op.eps, device=device)


def _group_norm(op: ops.GroupNorm, node: Node, device: torch.device | None) -> nn.Module:
    return nn.GroupNorm(op.groups, node.specs[0].channels, op.eps, device=device)


MODULES: Mapping[type[ops.Operator], Callable[[Any, Node, torch.device | None], nn.Module]] = {
    ops.Conv2d: _conv,
    ops.Linear: _linear,
    ops.BatchNorm: _batch_norm,
    ops.LayerNorm: _layer_norm,
    ops.GroupNorm: _group_norm,
    ops.PRelu: lambda op, node, device: nn.PReLU(node.specs[0].channels, device=device),
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
            the outputs of the supernet by rounding.
        device: device of the weights; on `meta`, nothing is allocated or initialized.
    """

    def __init__(
        self, blocks: Sequence[Block], *, fast: bool = False, device: torch.device | None = None
    ) -> None:
        super().__init__()
        self.fast = fast
        self.blocks = tuple(blocks)
        for node in (node for block in blocks for node in block.nodes if node.parameters):
            put_module(self, node.path, MODULES[type(node.op)](node.op, node, device))

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
        if parent not in root._modules:
            root._modules[parent] = nn.Module()
        root = cast(nn.Module, root._modules[parent])
    root._modules[name] = module  # `add_module` refuses the names of other attributes, such as `blocks`


def module_at(root: nn.Module, path: str) -> nn.Module:
    """The module that `put_module` registered in `root` under a dotted path."""
    for name in path.split("."):
        root = cast(nn.Module, root._modules[name])
    return root
