"""Elastic operators: modules with the weights of the largest choice; smaller choices use slices of them.

The active choice is a `Node` that is passed to each call, so modules have no state for it. Slices are views
of the weights where possible.
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
from search_spaces.operators.attention import MIXINGS

Shapes = Mapping[str, tuple[int, ...]]
"""Largest shape of each parameter of a node, by name."""
TOKEN_STD = 0.02
"""Standard deviation of the initial weights of transformers, from a normal distribution truncated at ±2
(Touvron et al. 2021)."""


def take(weight: Tensor, parameter: ops.Parameter) -> Tensor:
    """Slice a weight by the rule of each axis of `parameter`.

    Returns:
        a view of `weight` if each axis is one range, otherwise a copy.
    """
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
    """Base class of operators with weights; the weights have the size of the largest choice of the slot.

    Args:
        node: any choice of the slot; its operator defines the names of the parameters.
        shapes: shapes of the parameters of the largest choice.
    """

    def __init__(self, node: Node, shapes: Shapes) -> None:
        super().__init__()
        self.undecayed = frozenset(
            name for name, parameter in node.parameters.items() if not parameter.decayed
        )
        """Names of parameters without weight decay."""
        for name, parameter in node.parameters.items():
            if parameter.learned:
                self.register_parameter(name, nn.Parameter(torch.empty(shapes[name])))
            else:
                self.register_buffer(name, torch.empty(shapes[name]))

    def reset(self, generator: torch.Generator) -> None:
        """Initialize the weights with random numbers from `generator`."""
        raise NotImplementedError

    def sliced(self, node: Node) -> dict[str, Tensor]:
        """The weights of the choice `node` by name."""
        return {name: take(self._full(name), parameter) for name, parameter in node.parameters.items()}

    def forward(self, node: Node, inputs: Sequence[Tensor]) -> Tensor:
        """Compute the choice `node`; its inputs have the shapes (n, *spec.shape)."""
        return FUNCTIONS[type(node.op)](node.op, inputs, self.sliced(node))

    def _full(self, name: str) -> Tensor:
        tensor = getattr(self, name)
        assert isinstance(tensor, Tensor)
        return tensor


class ElasticLinear(ElasticOperator):
    """A linear layer."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, node: Node, shapes: Shapes) -> None:
        super().__init__(node, shapes)
        self._of_tokens = node.specs[0].layout == "tokens"

    def reset(self, generator: torch.Generator) -> None:
        """Initialize the weight from N(0, 0.01²) and the bias with zeros.

        The weight of a layer on tokens has a standard deviation of `TOKEN_STD`.
        """
        with torch.no_grad():
            if self._of_tokens:
                nn.init.trunc_normal_(self.weight, std=TOKEN_STD, generator=generator)
            else:
                self.weight.normal_(0, 0.01, generator=generator)
            if "bias" in self._parameters:
                nn.init.zeros_(self._full("bias"))


class ElasticConv2d(ElasticOperator):
    """A convolution.

    Args:
        node: any choice.
        shapes: shapes of the parameters of the largest choice.
        learned_kernels: kernel sizes with a learned kernel transform: each kernel is a linear map of the
            centre of the next larger kernel, with one matrix for all channels (OFA, Cai et al. 2020, §3.3).
            The matrices are initialized with the identity. If empty, a smaller kernel is the centre of the
            largest kernel.
    """

    weight: Tensor

    def __init__(self, node: Node, shapes: Shapes, learned_kernels: Sequence[int] = ()) -> None:
        super().__init__(node, shapes)
        sizes = sorted(learned_kernels, reverse=True)
        self.transforms = nn.ParameterDict(
            [(f"{a}to{b}", nn.Parameter(torch.eye(b * b))) for a, b in pairwise(sizes)]
        )

    def reset(self, generator: torch.Generator) -> None:
        """Initialize the weight as He et al. 2015, fan-out mode; the fan-out of depthwise filters is k²."""
        with torch.no_grad():
            depthwise = self.weight.shape[1] == 1
            fan_out = self.weight[0, 0].numel() * (1 if depthwise else self.weight.shape[0])
            self.weight.normal_(0, math.sqrt(2 / fan_out), generator=generator)
            if "bias" in self._parameters:
                nn.init.zeros_(self._full("bias"))

    def sliced(self, node: Node) -> dict[str, Tensor]:
        """The weights of the choice `node` by name; views where possible, unless kernels have learned
        transforms."""
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


class ElasticTables(ElasticOperator):
    """Learned tokens and positions."""

    def reset(self, generator: torch.Generator) -> None:
        """Initialize all tables from a truncated normal distribution with a standard deviation of
        `TOKEN_STD`."""
        for table in self.parameters(recurse=False):
            nn.init.trunc_normal_(table, std=TOKEN_STD, generator=generator)


class ElasticAttention(ElasticTables):
    """Tables of relative positions, and the linear layers of talking heads."""

    def reset(self, generator: torch.Generator) -> None:
        """Initialize tables as `ElasticTables`, and the linear layers as the identity."""
        super().reset(generator)
        for name, parameter in self.named_parameters(recurse=False):
            if name.removesuffix("_weight") in MIXINGS:
                nn.init.eye_(parameter)
            elif name.removesuffix("_bias") in MIXINGS:
                nn.init.zeros_(parameter)


class ElasticScale(ElasticOperator):
    """A factor for each channel."""

    def __init__(self, node: Node, shapes: Shapes) -> None:
        super().__init__(node, shapes)
        assert isinstance(node.op, ops.Scale)
        self._init = node.op.init

    def reset(self, generator: torch.Generator) -> None:
        """Initialize with the value that the operator defines."""
        nn.init.constant_(self._full("weight"), self._init)


class ElasticSlopes(ElasticOperator):
    """A slope for each channel of PReLU."""

    def reset(self, generator: torch.Generator) -> None:
        """Initialize with 0.25 (He et al. 2015, §2.1)."""
        nn.init.constant_(self._full("weight"), 0.25)


class ElasticConstants(ElasticOperator):
    """The constants of arithmetic with one number per channel."""

    def reset(self, generator: torch.Generator) -> None:
        """Initialize with ones."""
        nn.init.ones_(self._full("value"))


class ElasticNorm(ElasticOperator):
    """A layer norm over the active channels, or a group norm."""

    def reset(self, generator: torch.Generator) -> None:
        """Initialize as the identity."""
        with torch.no_grad():
            nn.init.ones_(self._full("weight"))
            nn.init.zeros_(self._full("bias"))


class ElasticBatchNorm(ElasticNorm):
    """Batch norm over the active channels.

    In training mode it uses the moments of the batch and does not update the running statistics, because
    statistics shared by all subnets fit none of them. BN recalibration computes the statistics of a subnet
    after `Supernet.extract`.
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor
    mean_over_processes: Callable[[Tensor], Tensor] | None = None
    """Differentiable mean over processes (`nas.training.reductions`); None: each process uses the moments of
    its own images."""

    def reset(self, generator: torch.Generator) -> None:
        """Initialize weights and running statistics as the identity."""
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
        # the number of images may differ by one between processes
        n = self.mean_over_processes(x.new_tensor(len(x), dtype=torch.float32))
        process_weight = len(x) / n
        mean = self.mean_over_processes(process_weight * x.float().mean((0, 2, 3)))
        centred = x.float() - _per_channel(mean)
        var = self.mean_over_processes(process_weight * centred.square().mean((0, 2, 3)))
        scale = weight * (var + eps).rsqrt()
        return (centred * _per_channel(scale) + _per_channel(bias)).to(x.dtype)


MODULES: Mapping[type[ops.Operator], type[ElasticOperator]] = {
    ops.Conv2d: ElasticConv2d,
    ops.Linear: ElasticLinear,
    ops.BatchNorm: ElasticBatchNorm,
    ops.LayerNorm: ElasticNorm,
    ops.GroupNorm: ElasticNorm,
    ops.PRelu: ElasticSlopes,
    ops.ChannelArithmetic: ElasticConstants,
    ops.Scale: ElasticScale,
    ops.PrependTokens: ElasticTables,
    ops.AddPositions: ElasticTables,
    ops.Attention: ElasticAttention,
    ops.WindowAttention: ElasticTables,
}
"""Elastic module of every operator with weights."""


def elastic_operators(
    blocks: Iterable[Block], learned_kernels: Sequence[int] = ()
) -> dict[str, ElasticOperator]:
    """Modules with the weights of all blocks of a slot.

    Args:
        blocks: all choices of the slot.
        learned_kernels: see `ElasticConv2d`; applies to convolutions with kernels larger than 1 × 1.

    Returns:
        modules by the path of their nodes; their weights are not initialized.
    """
    nodes: dict[str, Node] = {}
    shapes: dict[str, dict[str, tuple[int, ...]]] = {}
    for node in (node for block in blocks for node in block.nodes if node.parameters):
        nodes.setdefault(node.path, node)
        largest = shapes.setdefault(node.path, {})
        for name, parameter in node.parameters.items():
            shape = parameter.full_shape
            largest[name] = tuple(map(max, largest.get(name, shape), shape))
    modules: dict[str, ElasticOperator] = {}
    for path, node in nodes.items():
        module_class = MODULES[type(node.op)]
        if module_class is ElasticConv2d and shapes[path]["weight"][-1] > 1:
            modules[path] = ElasticConv2d(node, shapes[path], learned_kernels)
        else:
            modules[path] = module_class(node, shapes[path])
    return modules


def _per_channel(values: Tensor) -> Tensor:
    """Reshape (c,) so that it broadcasts over feature maps of shape (n, c, h, w)."""
    return values[:, None, None]
