"""Weights of the largest choice, of which any smaller one takes its part.

The choice is a `Node` that comes with the call. Weights are sliced as views: no copy, no state.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas.torch_backend.functional import FUNCTIONS
from search_spaces import Block, Node
from search_spaces import operators as ops

Shapes = Mapping[str, tuple[int, ...]]
"""The largest shape of each parameter of a node, by name."""


def take(weight: Tensor, parameter: ops.Parameter) -> Tensor:
    """The part of a weight that a choice takes, by the rule of each axis; a view where ranges allow it."""
    for dim, axis in enumerate(parameter.axes):
        ranges = axis.ranges(weight.shape[dim])
        if len(ranges) == 1:
            start, end = ranges[0]
            if end - start != weight.shape[dim]:
                weight = weight.narrow(dim, start, end - start)
        else:
            weight = torch.cat([weight.narrow(dim, start, end - start) for start, end in ranges], dim)
    return weight


class ElasticOperator(nn.Module):
    """An operator with weights, as large as the largest choice of its slot.

    Args:
        node: one choice; its operator says which parameters there are.
        shapes: of the largest choice.
    """

    def __init__(self, node: Node, shapes: Shapes) -> None:
        super().__init__()
        for name, parameter in node.parameters.items():
            if parameter.learned:
                self.register_parameter(name, nn.Parameter(torch.empty(shapes[name])))
            else:
                self.register_buffer(name, torch.empty(shapes[name]))

    def reset(self, generator: torch.Generator) -> None:
        """Draw initial weights."""
        raise NotImplementedError

    def sliced(self, node: Node) -> dict[str, Tensor]:
        """The weights of a choice by name."""
        return {name: take(self._full(name), parameter) for name, parameter in node.parameters.items()}

    def forward(self, node: Node, inputs: Sequence[Tensor]) -> Tensor:
        """Compute a choice from its inputs, shapes (n, *spec.shape)."""
        return FUNCTIONS[type(node.op)](node.op, inputs, self.sliced(node))

    def _full(self, name: str) -> Tensor:
        tensor = getattr(self, name)
        assert isinstance(tensor, Tensor)
        return tensor


class ElasticLinear(ElasticOperator):
    """A linear layer."""

    weight: Tensor
    bias: Tensor | None

    def reset(self, generator: torch.Generator) -> None:
        """A small normal distribution, and a bias of zeros."""
        with torch.no_grad():
            self.weight.normal_(0, 0.01, generator=generator)
            if "bias" in self._parameters:
                nn.init.zeros_(self._full("bias"))


class ElasticConv2d(ElasticOperator):
    """A convolution.

    Args:
        node: one choice.
        shapes: of the largest choice.
        learned_kernels: kernel sizes of which each is a learned linear map of the next larger one's centre,
            shared by all channels (OFA, Cai et al. 2020, §3.3); none: a smaller kernel is the centre of the
            largest. The maps begin as the identity.
    """

    weight: Tensor

    def __init__(self, node: Node, shapes: Shapes, learned_kernels: Sequence[int] = ()) -> None:
        super().__init__(node, shapes)
        larger_first = sorted(learned_kernels, reverse=True)
        self.transforms = nn.ParameterDict(
            [(f"{a}to{b}", nn.Parameter(torch.eye(b * b))) for a, b in pairwise(larger_first)]
        )

    def reset(self, generator: torch.Generator) -> None:
        """He et al. 2015, fan out; a depthwise filter counts alone."""
        with torch.no_grad():
            depthwise = self.weight.shape[1] == 1
            fan_out = self.weight[0, 0].numel() * (1 if depthwise else self.weight.shape[0])
            self.weight.normal_(0, math.sqrt(2 / fan_out), generator=generator)
            if "bias" in self._parameters:
                nn.init.zeros_(self._full("bias"))

    def sliced(self, node: Node) -> dict[str, Tensor]:
        """The weights of a choice; views unless its kernel is learned."""
        if not self.transforms:
            return super().sliced(node)
        parameter = node.parameters["weight"]
        *channels, height, width = parameter.axes
        full = tuple(map(ops.Prefix, self.weight.shape[2:]))
        weight = take(self.weight, ops.Parameter((*channels, *full)))
        for matrix in self.transforms.values():
            size = math.isqrt(len(matrix))
            if size >= height.size:
                centre = take(weight, ops.Parameter((*channels, ops.Centre(size), ops.Centre(size))))
                weight = F.linear(centre.flatten(2), matrix).unflatten(2, (size, size))
        weight = take(weight, ops.Parameter((*channels, height, width)))
        others = {name: p for name, p in node.parameters.items() if name != "weight"}
        return {"weight": weight} | {name: take(self._full(name), p) for name, p in others.items()}


class ElasticNorm(ElasticOperator):
    """A layer norm over the active channels."""

    def reset(self, generator: torch.Generator) -> None:
        """The identity."""
        with torch.no_grad():
            nn.init.ones_(self._full("weight"))
            nn.init.zeros_(self._full("bias"))


class ElasticBatchNorm(ElasticNorm):
    """Batch norm over the first channels.

    While training it uses the moments of the batch and leaves the running statistics alone: shared between
    subnets they would describe none of them. A subnet gets its own by BN recalibration after `extract`.
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor
    mean_over_processes: Callable[[Tensor], Tensor] | None = None
    """Differentiable; None: each process uses the moments of its own images (`nas.training.reductions`)."""

    def reset(self, generator: torch.Generator) -> None:
        """The identity, also by its statistics."""
        super().reset(generator)
        nn.init.zeros_(self.running_mean)
        nn.init.ones_(self.running_var)

    def forward(self, node: Node, inputs: Sequence[Tensor]) -> Tensor:
        """See `ElasticOperator`."""
        if not self.training:
            return super().forward(node, inputs)
        assert isinstance(node.op, ops.BatchNorm)
        x, eps = inputs[0], node.op.eps
        c = x.shape[1]
        weight, bias = self.weight[:c], self.bias[:c]
        if self.mean_over_processes is None:
            return F.batch_norm(x, None, None, weight, bias, training=True, eps=eps)
        # the shares of the processes may differ by an image
        n = self.mean_over_processes(x.new_tensor(len(x), dtype=torch.float32))
        weight_of_share = len(x) / n
        mean = self.mean_over_processes(weight_of_share * x.float().mean((0, 2, 3)))
        centred = x.float() - _per_channel(mean)
        var = self.mean_over_processes(weight_of_share * centred.square().mean((0, 2, 3)))
        scale = weight * (var + eps).rsqrt()
        return (centred * _per_channel(scale) + _per_channel(bias)).to(x.dtype)


MODULES: Mapping[type[ops.Operator], type[ElasticOperator]] = {
    ops.Conv2d: ElasticConv2d,
    ops.Linear: ElasticLinear,
    ops.BatchNorm: ElasticBatchNorm,
    ops.LayerNorm: ElasticNorm,
}
"""The elastic module of every operator with weights."""


def elastic_operators(
    blocks: Iterable[Block], learned_kernels: Sequence[int] = ()
) -> dict[str, ElasticOperator]:
    """The modules that hold the weights of all blocks that may fill a slot, by path, not initialised yet.

    Args:
        blocks: the choices.
        learned_kernels: of convolutions with a kernel of more than one pixel, see `ElasticConv2d`.
    """
    nodes: dict[str, Node] = {}
    shapes: dict[str, dict[str, tuple[int, ...]]] = {}
    for node in (node for block in blocks for node in block.nodes if node.parameters):
        nodes.setdefault(node.path, node)
        largest = shapes.setdefault(node.path, {})
        for name, parameter in node.parameters.items():
            shape = parameter.shape
            largest[name] = tuple(map(max, largest.get(name, shape), shape))
    found: dict[str, ElasticOperator] = {}
    for path, node in nodes.items():
        module = MODULES[type(node.op)]
        if module is ElasticConv2d and shapes[path]["weight"][-1] > 1:
            found[path] = ElasticConv2d(node, shapes[path], learned_kernels)
        else:
            found[path] = module(node, shapes[path])
    return found


def _per_channel(values: Tensor) -> Tensor:
    """(c,) as a tensor that broadcasts over maps of shape (n, c, h, w)."""
    return values[:, None, None]
