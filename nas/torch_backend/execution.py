"""Fast execution of a network without gradients."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping, Sequence

import torch.nn.functional as F
from torch import Tensor

from nas.torch_backend.functional import FUNCTIONS, Weights, faster_layout
from search_spaces import Block, Node
from search_spaces import operators as ops

IN_PLACE: dict[type[ops.Operator], Callable[[Tensor, Sequence[Tensor]], Tensor]] = {
    ops.Relu: lambda x, others: F.relu_(x),
    ops.Relu6: lambda x, others: F.relu6(x, inplace=True),
    ops.HardSwish: lambda x, others: F.hardswish(x, inplace=True),
    ops.Swish: lambda x, others: F.silu(x, inplace=True),
    ops.HardSigmoid: lambda x, others: F.hardsigmoid(x, inplace=True),
    ops.Sigmoid: lambda x, others: x.sigmoid_(),
    ops.Add: lambda x, others: x.add_(others[0]),
    ops.Multiply: lambda x, others: x.mul_(others[0]),
}
"""Operators that can overwrite their first input; called with the first input and a list of the others."""
VIEWS = (
    *(ops.Slice, ops.Flatten, ops.Resize, ops.ImageToTokens, ops.TokensToImage, ops.TakeToken),
    *(ops.ChannelsLast, ops.ChannelsFirst, ops.ToPixel),
)
"""Operators whose output may share memory with their input."""


class Execution:
    """Runs the nodes of a network in order.

    A tensor is freed after its last use, and operators overwrite inputs that no later node reads. Both reduce
    the memory in use, which is faster on CPUs.

    Args:
        network: the whole network as one block, see `search_spaces.graph.chain`.
        weights: weights of the nodes by path.
    """

    def __init__(self, network: Block, weights: MutableMapping[str, Weights]) -> None:
        self.network = network
        self.weights = weights
        nodes = network.nodes
        last_use = {source: i for i, node in enumerate(nodes) for source in node.inputs}
        last_use |= dict.fromkeys(network.outputs, len(nodes))
        self._freed = [{j for j in node.inputs if last_use[j] == i} for i, node in enumerate(nodes)]
        viewed = {node.inputs[0] for node in nodes if isinstance(node.op, VIEWS)}
        self._in_place = [
            type(node.op) in IN_PLACE
            and node.inputs[0] in self._freed[i]
            and node.inputs.count(node.inputs[0]) == 1
            and node.inputs[0] not in viewed
            and self._owns_memory(node.inputs[0])
            and node.output.shape == node.specs[0].shape
            for i, node in enumerate(nodes)
        ]

    def __call__(self, tensors: MutableMapping[int, Tensor], start: int, end: int) -> None:
        """Run the nodes from `start` to `end - 1`.

        Args:
            tensors: the tensors that these nodes read, by index of the node that computed them; changed in
                place. Tensors that no later node reads are removed, and the new tensors are added.
            start: index of the first node.
            end: index after the last node.
        """
        for i in range(start, end):
            node = self.network.nodes[i]
            inputs = [tensors[j] for j in node.inputs]
            for j in self._freed[i]:
                del tensors[j]
            tensors[i] = self._compute(node, inputs, self._in_place[i])

    def _compute(self, node: Node, inputs: Sequence[Tensor], in_place: bool) -> Tensor:
        if in_place:
            return IN_PLACE[type(node.op)](inputs[0], inputs[1:])
        output = FUNCTIONS[type(node.op)](node.op, inputs, self.weights.get(node.path, {}))
        return faster_layout(output) if node.parameters else output

    def _owns_memory(self, index: int) -> bool:
        """Whether the tensor is neither an input of the network nor a view of another tensor."""
        return index >= 0 and not isinstance(self.network.nodes[index].op, VIEWS)
