"""One subnet as a plain network: ordinary torch modules, nothing elastic."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from nas.torch_backend.functional import FUNCTIONS, run_network
from search_spaces import Block, Node
from search_spaces import operators as ops


def _conv(op: ops.Conv2d, node: Node) -> nn.Module:
    """With the padding of top and left; `StaticNet` computes other paddings itself."""
    channels = node.specs[0].channels
    return nn.Conv2d(
        channels, op.channels, op.kernel, op.stride, op.padding[:2], op.dilation, op.groups, op.bias
    )


MODULES: Mapping[type[ops.Operator], Callable[[Any, Node], nn.Module]] = {
    ops.Conv2d: _conv,
    ops.Linear: lambda op, node: nn.Linear(node.specs[0].channels, op.channels, bias=op.bias),
    ops.BatchNorm: lambda op, node: nn.BatchNorm2d(node.specs[0].channels, op.eps),
    ops.LayerNorm: lambda op, node: nn.LayerNorm(node.specs[0].channels, op.eps),
}
"""Makes the torch module of every operator with weights."""


class StaticNet(nn.Module):
    """The network that blocks describe.

    Weights are named after the nodes: `stages.0.blocks.1.depthwise.weight`, `….norm.running_mean`.

    Args:
        blocks: in order, as `Space.blocks` gives them.
        fast: whether it may round otherwise than the supernet in eval mode too, see `run_network`.
    """

    def __init__(self, blocks: Sequence[Block], *, fast: bool = False) -> None:
        super().__init__()
        self.fast = fast
        self.blocks = tuple(blocks)
        for node in (node for block in blocks for node in block.nodes if node.parameters):
            put_module(self, node.path, MODULES[type(node.op)](node.op, node))

    def forward(self, x: Tensor) -> Tensor:
        """Images (n, channels, height, width) -> logits (n, classes)."""
        return run_network(self.blocks, x, self._compute, fast=self.fast or self.training)

    def _compute(self, node: Node, inputs: Sequence[Tensor]) -> Tensor:
        module, op = self.get_submodule(node.path), node.op
        if isinstance(op, ops.Conv2d) and op.padding[:2] != op.padding[2:]:
            return FUNCTIONS[ops.Conv2d](op, inputs, dict(module.named_parameters(recurse=False)))
        return cast(Tensor, module(inputs[0]))

    def weights(self) -> dict[str, NDArray[np.float32]]:
        """All weights and statistics by name, as `nas.onnx_backend.onnx_graph.build` reads them."""
        state = cast(Mapping[str, Tensor], self.state_dict())
        return {
            name: tensor.detach().cpu().numpy()
            for name, tensor in state.items()
            if not name.endswith("num_batches_tracked")
        }


def put_module(root: nn.Module, path: str, module: nn.Module) -> None:
    """Register `module` in `root` under a dotted path, with plain modules as folders."""
    *folders, name = path.split(".")
    for folder in folders:
        if folder not in root._modules:
            root.add_module(folder, nn.Module())
        root = root.get_submodule(folder)
    root.add_module(name, module)
